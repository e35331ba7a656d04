//! What the watches show, and whether they have shown all that is there.

pub mod by_name;
pub mod gone;
pub mod lists;
pub mod metadata;
pub mod relists;
