//! [`Settings`]: the settings of a command that was parsed, with where they come from.

use clap::{ArgMatches, Command};

use super::settings_file::SettingsFile;

/// What was parsed, for commands that show it.
pub(super) struct Settings<'a> {
    /// The program, with the variables that its settings have read.
    pub(super) command: &'a Command,
    /// What was found for them.
    pub(super) matches: &'a ArgMatches,
    /// The file of settings, if one is named.
    pub(super) file: Option<&'a SettingsFile>,
}
