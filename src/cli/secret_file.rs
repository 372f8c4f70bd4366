//! [`SecretFile`]: reads a secret from the file that its variable names, as Docker and Kubernetes hand secrets out.

use std::any::TypeId;
use std::ffi::OsStr;
use std::fmt::Display;
use std::str::FromStr;

use clap::builder::{TypedValueParser, ValueParser};
use clap::parser::ValueSource;
use clap::{Arg, Command, Error};

use crate::config::{Database, RedisConfig, Secret};

/// The parser of a setting whose variable names a file. A flag holds the secret itself.
#[derive(Debug, Clone)]
pub(super) struct SecretFile<T> {
    parse: fn(&str) -> Result<T, String>,
    /// Whether the variable of the secret itself is set as well: it is not known which of them is meant.
    is_given_twice: bool,
}

/// The parser for the file of a setting; `None` if the setting holds no secret.
pub(super) fn file_parser(arg: &Arg, is_given_twice: bool) -> Option<ValueParser> {
    let value = arg.get_value_parser().type_id();
    if value == TypeId::of::<Secret>() {
        let parse = |text: &str| Ok(Secret::from(text.to_owned()));
        Some(SecretFile::new(parse, is_given_twice).into())
    } else if value == TypeId::of::<Database>() {
        Some(SecretFile::new(parse_url::<Database>, is_given_twice).into())
    } else if value == TypeId::of::<RedisConfig>() {
        Some(SecretFile::new(parse_url::<RedisConfig>, is_given_twice).into())
    } else {
        None
    }
}

/// An address that can hold a password.
fn parse_url<T: FromStr<Err: Display>>(text: &str) -> Result<T, String> {
    text.parse().map_err(|error: T::Err| error.to_string())
}

impl<T> SecretFile<T> {
    fn new(parse: fn(&str) -> Result<T, String>, is_given_twice: bool) -> Self {
        Self {
            parse,
            is_given_twice,
        }
    }

    /// Reads the file. The error does not repeat the path: it may be the secret itself, in the wrong variable.
    fn read(&self, path: &str) -> Result<T, String> {
        if self.is_given_twice {
            return Err(
                "the secret is given twice, as it is and in a file: unset one of the two"
                    .to_owned(),
            );
        }
        let text = std::fs::read_to_string(path)
            .map_err(|error| format!("cannot read the file: {error}"))?;
        match text.trim_end_matches(['\r', '\n']) {
            "" => Err("the file is empty".to_owned()),
            secret => (self.parse)(secret),
        }
    }
}

impl<T: Clone + Send + Sync + 'static> TypedValueParser for SecretFile<T> {
    type Value = T;

    fn parse_ref(&self, command: &Command, arg: Option<&Arg>, value: &OsStr) -> Result<T, Error> {
        self.parse.parse_ref(command, arg, value)
    }

    fn parse_ref_(
        &self,
        command: &Command,
        arg: Option<&Arg>,
        value: &OsStr,
        source: ValueSource,
    ) -> Result<T, Error> {
        if source != ValueSource::EnvVariable {
            return self.parse_ref(command, arg, value);
        }
        let read = {
            let file = self.clone();
            move |path: &str| file.read(path)
        };
        read.parse_ref(command, arg, value)
    }
}
