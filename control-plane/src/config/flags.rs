//! The flags of the table, for clap: one a setting, and `--config` for the file.
//!
//! In: the command line. Out: key and text of each flag that was given, unread: all layers are read by the same code.

use super::settings::SETTINGS;
use clap::{Arg, ArgMatches, Args, Command, FromArgMatches};
use std::path::PathBuf;
use std::sync::LazyLock;

/// What was given on the command line.
#[derive(Clone, Debug, Default)]
pub struct Flags {
    /// The file.
    pub config: Option<PathBuf>,
    /// Setting (by its place in the table) and text.
    pub given: Vec<(usize, String)>,
}

/// Clap wants names that live as long as the process.
struct Names {
    flag: String,
    help: String,
    form: String,
}

static NAMES: LazyLock<Vec<Names>> = LazyLock::new(|| {
    let one = |setting: &super::Setting| {
        let help: Vec<&str> = setting.help.iter().map(|line| line.trim()).collect();
        let default = match setting.default {
            "" => String::new(),
            default => format!(" [default: {default}]"),
        };
        Names {
            flag: setting.flag(),
            help: format!("{}{default}", help.join(" ")),
            form: setting.form.split(' ').next().unwrap_or_default().to_ascii_uppercase(),
        }
    };
    SETTINGS.iter().map(one).collect()
});

impl Args for Flags {
    fn augment_args(command: Command) -> Command {
        let command = command.arg(
            Arg::new("config")
                .long("config")
                .value_name("FILE")
                .value_parser(clap::value_parser!(PathBuf))
                .help("A settings file [env: METANODE_CONFIG]; `metanode config --default` prints one"),
        );
        NAMES.iter().fold(command, |command, names| {
            let form = if names.form == "A" { "NUMBER" } else { names.form.as_str() };
            let bool_like = names.form == "TRUE";
            let arg = Arg::new(names.flag.as_str())
                .long(names.flag.as_str())
                .value_name(if bool_like { "BOOL" } else { form })
                .help(names.help.as_str())
                .help_heading("Settings");
            command.arg(if bool_like {
                arg.num_args(0..=1).default_missing_value("true").require_equals(true)
            } else {
                arg
            })
        })
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl FromArgMatches for Flags {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let text = |names: &Names| matches.get_one::<String>(&names.flag).cloned();
        let given = NAMES.iter().enumerate().filter_map(|(i, names)| Some((i, text(names)?)));
        Ok(Self { config: matches.get_one("config").cloned(), given: given.collect() })
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}
