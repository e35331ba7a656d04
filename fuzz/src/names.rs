//! Names and durations, as users write them.

use jiff::SignedDuration;
use usercert_operator::{certificate::Subject, decide::parse_duration};

use crate::{Outcome, oracle::assert_readable};

/// A user name or the RFC 4514 string of a subject. What is taken prints as something that means the same.
pub fn subject(data: &[u8]) -> Outcome {
    let text = String::from_utf8_lossy(data);
    for subject in [Subject::parse(&text), Subject::common_name(&text), Subject::for_user(&text)].into_iter().flatten() {
        let printed = subject.to_string();
        assert!(!printed.chars().any(char::is_control), "{printed:?}");
        assert_eq!(Subject::parse(&printed).as_ref(), Ok(&subject));
        assert_eq!(Subject::parse(&printed).map(|again| again.to_string()), Ok(printed));
        let user_name = subject.mongodb_user_name();
        assert!(user_name.is_ascii(), "{user_name:?}");
        assert_eq!(Subject::parse(&user_name).as_ref(), Ok(&subject));
    }
    if let Err(error) = Subject::parse(&text)
        && text.len() <= 2048
    {
        assert_readable(&error.to_string());
    }
    Outcome::Read
}

/// A duration. What is taken is a minute at least, and comes back from what it prints as.
pub fn duration(data: &[u8]) -> Outcome {
    let text = String::from_utf8_lossy(data);
    let Ok(duration) = parse_duration("spec.duration", &text) else { return Outcome::Read };
    assert!(duration >= SignedDuration::from_mins(1), "{duration:?}");
    let seconds = duration.as_secs();
    for again in [format!("{seconds}s"), format!("{}h{}m{}s", seconds / 3600, seconds / 60 % 60, seconds % 60)] {
        assert_eq!(parse_duration("spec.duration", &again).map(|again| again.as_secs()), Ok(seconds), "{again}");
    }
    Outcome::Read
}
