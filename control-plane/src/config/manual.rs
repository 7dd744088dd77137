//! The manual: the commented default file, and the page made from it.
//!
//! In: the table. Out: text. Uncommenting any line of the file changes nothing: every value in it is the default.

use super::settings::{SECTIONS, SETTINGS, Setting};

/// A value as TOML writes it.
fn toml_value(text: &str) -> String {
    let bare = matches!(text, "true" | "false")
        || (!text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()));
    if bare { text.to_owned() } else { toml::Value::String(text.to_owned()).to_string() }
}

fn rows(section: &str) -> impl Iterator<Item = &'static Setting> {
    SETTINGS.iter().filter(move |s| s.section == section)
}

/// The default file: every setting, its help, its default commented out.
pub fn file() -> String {
    let mut text = String::from(
        "# Settings of a MetaNode node, with their defaults. Each can be overridden by the variable METANODE_ and its key in capitals,\n\
         # with _ between section and name (METANODE_RPC_LISTEN), and that by a flag (--rpc-listen).\n",
    );
    for section in SECTIONS {
        text.push('\n');
        for line in section.help {
            text += &["# ", line.trim(), "\n"].concat();
        }
        if section.name != "node" {
            text += &["[", section.name, "]\n"].concat();
        }
        for setting in rows(section.name) {
            text.push('\n');
            for line in setting.help {
                text += &["# ", line.trim(), "\n"].concat();
            }
            text += &["# ", &setting.form(), "\n"].concat();
            text += &["#", setting.name, " = ", &toml_value(setting.default), "\n"].concat();
        }
    }
    text
}

/// docs/configuration.md.
pub fn page() -> String {
    let mut text = String::from(
        "# Configuration\n\n\
         Written by a test from the table of settings (`control-plane/src/config/settings.rs`); the same text, as a file to start from, \
         is printed by `metanode config --default`.\n\n\
         A setting is taken from the first of these that has it: a flag, a variable, the file named by `--config` or \
         `METANODE_CONFIG`, the default. An empty variable counts as unset. A key, variable or flag that nobody knows is refused \
         with the nearest one that exists, and all mistakes are told at once (exit code 78). `metanode config` prints what is in \
         effect and where each value came from. Secrets are read from files only.\n",
    );
    for section in SECTIONS {
        let title = if section.name == "node" { "Top of the file" } else { section.name };
        text += &["\n## ", title, "\n\n"].concat();
        let about: Vec<&str> = section.help.iter().map(|line| line.trim()).collect();
        text += &[about.join(" ").as_str(), "\n\n"].concat();
        text += "| key | variable | flag | default | value |\n| --- | --- | --- | --- | --- |\n";
        for s in rows(section.name) {
            let default = match s.default {
                "" => String::new(),
                default => format!("`{default}`"),
            };
            let (key, variable, flag) = (s.key(), s.variable(), s.flag());
            text +=
                &format!("| `{key}` | `{variable}` | `--{flag}` | {default} | {} |\n", s.form());
        }
        text.push('\n');
        for s in rows(section.name) {
            let help: Vec<&str> = s.help.iter().map(|line| line.trim()).collect();
            text += &["- `", &s.key(), "`: ", &help.join(" "), "\n"].concat();
        }
    }
    text += "\n## As a file\n\n```toml\n";
    text += &file();
    text += "```\n";
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Flags, layers};

    #[test]
    fn the_default_file_with_every_line_uncommented_is_the_default() {
        let uncommented: String = file()
            .lines()
            .map(|line| match line.strip_prefix('#') {
                Some(rest) if !rest.starts_with(' ') => format!("{rest}\n"),
                _ => format!("{line}\n"),
            })
            .collect();
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("default.toml");
        std::fs::write(&path, uncommented).expect("a file");
        let flags = Flags { config: Some(path), given: Vec::new() };
        let loaded = layers::load(&flags, &[]).expect("the default file is sound");
        let nothing = layers::load(&Flags::default(), &[]).expect("so is nothing");
        assert_eq!(loaded.config, nothing.config);
        let from_file = |o: &&layers::Origin| matches!(o, layers::Origin::File(_));
        assert_eq!(loaded.origins.iter().filter(from_file).count(), SETTINGS.len());
    }

    /// With METANODE_BLESS=1 the page is written anew.
    #[test]
    fn the_page_about_configuration_is_what_the_table_says() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/configuration.md");
        if std::env::var_os("METANODE_BLESS").is_some() {
            std::fs::write(path, page()).expect("the page");
        }
        let kept = std::fs::read_to_string(path).unwrap_or_default();
        assert!(
            kept == page(),
            "docs/configuration.md is out of date; write it with METANODE_BLESS=1"
        );
    }
}
