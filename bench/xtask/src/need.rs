//! What a part or a package table asks of the machine, and whether it is there.
//!
//! In: a [`Need`]. Out: `None` when met, else the sentence that a skipped part prints.

use crate::tree;
use std::process::{Command, Stdio};

/// One thing a part cannot run without.
#[derive(Clone, Copy, Debug)]
pub enum Need {
    /// A program that answers this command line with exit code 0.
    Tool(&'static [&'static str]),
    /// A file or folder, relative to the root (`../shared/vectors` lies beside the checkout).
    Path(&'static str),
}

impl Need {
    /// Why the need is not met, or `None` when it is.
    pub fn missing(self) -> Option<String> {
        match self {
            Self::Tool(probe) => (!answers(probe)).then(|| {
                format!("`{}` does not run here; try `cargo xtask setup`", probe.join(" "))
            }),
            Self::Path(path) => {
                (!tree::root().join(path).exists()).then(|| format!("{path} is not there"))
            }
        }
    }
}

/// Whether the command line runs and exits with 0. Output is thrown away.
pub fn answers(command: &[&str]) -> bool {
    let (program, args) = command.split_first().expect("a probe names a program");
    Command::new(program)
        .args(args)
        .current_dir(tree::root())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_need_that_is_not_met_says_what_is_missing() {
        let missing = Need::Path("no/such/folder").missing().expect("it is not there");
        assert!(missing.contains("no/such/folder"), "{missing}");
        let missing = Need::Tool(&["no-such-program-at-all", "--version"]).missing();
        assert!(missing.expect("it is not there").contains("no-such-program-at-all"));
        assert_eq!(Need::Path("Cargo.toml").missing(), None);
    }
}
