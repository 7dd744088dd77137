//! The page `docs/operate/tuning.md`, generated from the stages; a test compares the two.

use crate::stages::STAGES;
use std::fmt::Write;

/// The part of the page that describes the stages.
pub fn stages() -> String {
    let mut page = String::new();
    for stage in &STAGES {
        let words = &stage.words;
        let _ = write!(
            page,
            "### {}\n\n{}\n\n* why: {}\n* gain: {}\n* risk: {}\n* undo: {}\n\n",
            stage.name, words.what, words.why, words.gain, words.risk, words.undo
        );
    }
    page
}
