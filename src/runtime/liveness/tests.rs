//! Statements about loops that move, stand still, end and panic, and about clocks.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on has failed")]

use super::*;

const MINUTE: Duration = Duration::from_mins(1);

/// Lets this many seconds pass, one by one, as a process sees them that can run.
fn run(liveness: &Liveness, seconds: u64) {
    for _ in 0..seconds {
        liveness.passed(Duration::from_secs(1), SignedDuration::from_secs(1));
    }
}

fn failed(liveness: &Liveness) -> Vec<String> {
    liveness.look().checks.into_iter().filter(|check| !check.is_passed()).map(|check| check.name).collect()
}

#[test]
fn a_loop_that_stands_still_fails_until_it_moves_again() {
    let liveness = Liveness::default();
    let (still, moving) = (liveness.expect("still", MINUTE), liveness.expect("moving", MINUTE));
    still.beat();
    for _ in 0..60 {
        moving.beat();
        run(&liveness, 1);
    }
    assert_eq!((failed(&liveness), liveness.look().verdict), (vec![], Verdict::Alive));
    run(&liveness, 1);
    assert_eq!((failed(&liveness), liveness.look().verdict), (vec!["still".to_owned()], Verdict::Restart));
    let lines = Check::lines(&liveness.look().checks);
    assert_eq!(lines, "[+]moving ok\n[-]still failed: it has not moved for 61 s, of 60 s allowed\n");
    still.beat();
    assert_eq!(liveness.look().verdict, Verdict::Alive);
}

#[test]
fn a_loop_that_has_not_begun_or_has_ended_fails_nothing() {
    let liveness = Liveness::default();
    let (waiting, ended) = (liveness.expect("waiting", MINUTE), liveness.expect("ended", MINUTE));
    ended.beat();
    drop(ended);
    run(&liveness, 3600);
    assert_eq!(liveness.look().verdict, Verdict::Alive);
    assert_eq!(Check::lines(&liveness.look().checks), "[+]waiting ok: it has not begun\n");
    drop(waiting);
}

#[test]
fn a_loop_that_ended_by_a_panic_fails_for_ever() {
    let liveness = Liveness::default();
    let heartbeat = liveness.expect("broken", MINUTE);
    let ended = thread::spawn(move || {
        let _heartbeat = heartbeat;
        panic!("as a test wants it");
    });
    assert!(ended.join().is_err());
    assert_eq!((failed(&liveness), liveness.look().verdict), (vec!["broken".to_owned()], Verdict::Restart));
    run(&liveness, 3600);
    assert_eq!(liveness.look().verdict, Verdict::Restart);
}

#[test]
fn while_the_process_stops_loops_may_stand_still_for_as_long_as_that_takes_and_a_panic_fails() {
    let liveness = Liveness::default();
    let (clock, broken) = (liveness.expect("clock", MINUTE), liveness.expect("broken", MINUTE));
    clock.beat();
    liveness.stopping(10 * MINUTE);
    run(&liveness, 660);
    assert_eq!((failed(&liveness), liveness.stalled(), liveness.look().verdict), (vec![], 0, Verdict::Alive));
    run(&liveness, 1);
    let lines = Check::lines(&liveness.look().checks);
    assert!(lines.contains("[-]clock failed: it has not moved for 661 s, of 660 s allowed\n"), "{lines}");
    clock.beat();
    let ended = thread::spawn(move || {
        let _broken = broken;
        panic!("as a test wants it");
    });
    assert!(ended.join().is_err());
    assert_eq!((failed(&liveness), liveness.stalled()), (vec!["broken".to_owned()], 1));
}

#[test]
fn of_loops_with_one_name_the_one_that_stands_still_is_shown() {
    let liveness = Liveness::default();
    let watches = [(); 3].map(|()| liveness.expect("watch/by-name", MINUTE));
    watches.iter().for_each(Heartbeat::beat);
    run(&liveness, 61);
    watches[0].beat();
    watches[2].beat();
    let pulse = liveness.look();
    assert_eq!((liveness.stalled(), pulse.checks.len(), failed(&liveness)), (1, 1, vec!["watch/by-name".to_owned()]));
}

#[test]
fn a_pause_and_a_jump_are_counted_and_fail_nothing() {
    let liveness = Liveness::default();
    let heartbeat = liveness.expect("clock", MINUTE);
    heartbeat.beat();
    let hours = |hours| SignedDuration::from_hours(hours);
    for (case, monotonic, wall, pauses, jumps) in [
        ("stopped by a signal, or a frozen container", 3600, hours(1), 1, 0),
        ("a machine that slept: the monotonic clock stood still", 1, hours(8), 1, 1),
        ("a clock that was set back", 1, hours(-20), 1, 2),
        ("a virtual machine that was suspended, both at once", 3600, hours(5), 2, 3),
        ("a busy machine", 5, SignedDuration::from_secs(5), 2, 3),
    ] {
        liveness.passed(Duration::from_secs(monotonic), wall);
        assert_eq!((liveness.pauses(), liveness.clock_jumps()), (pauses, jumps), "{case}");
        assert_eq!(liveness.look().verdict, Verdict::Alive, "{case}");
    }
}

#[test]
fn certificates_in_memory_alone_hold_a_restart_back_for_half_an_hour() {
    for (overdue, unsaved, expected) in [
        (None, 1, Verdict::Alive),
        (Some(MINUTE), 0, Verdict::Restart),
        (Some(MINUTE), 2, Verdict::HeldBack(2)),
        (Some(Duration::from_secs(1799)), 1, Verdict::HeldBack(1)),
        (Some(HELD_BACK), 1, Verdict::Restart),
    ] {
        assert_eq!(verdict(overdue, || unsaved), expected, "{overdue:?} {unsaved}");
    }
    let liveness = Liveness::default();
    liveness.counts_unsaved(|| 1);
    liveness.counts_unsaved(|| 2);
    let heartbeat = liveness.expect("clock", MINUTE);
    heartbeat.beat();
    run(&liveness, 61);
    assert_eq!(liveness.look().verdict, Verdict::HeldBack(3));
}

#[test]
fn the_clocks_are_watched_on_a_thread_that_ends_with_the_last_owner() {
    let liveness = Liveness::default();
    liveness.watch_clocks().unwrap();
    let started = Instant::now();
    while liveness.0.awake.load(Ordering::SeqCst) == 0 {
        assert!(started.elapsed() < Duration::from_secs(20), "no time counts");
        thread::sleep(Duration::from_millis(50));
    }
    let weak = Arc::downgrade(&liveness.0);
    drop(liveness);
    while weak.upgrade().is_some() {
        assert!(started.elapsed() < Duration::from_secs(40), "the thread keeps it");
        thread::sleep(Duration::from_millis(50));
    }
}
