//! Statements about the order of steps.
