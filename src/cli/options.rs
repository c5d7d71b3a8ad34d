//! The arguments that set a network's options, made from the model's table.

use std::collections::BTreeMap;

use clap::builder::{PossibleValue, PossibleValuesParser};
use clap::error::ErrorKind;
use clap::{Arg, ArgMatches, Args, Command, FromArgMatches};

use crate::model::{NetworkOption, NetworkOptions};

/// What was given of the options of a network. `NEW`: of one that is created, which may have all of them, and whose
/// defaults the help tells; else of one that is there.
#[derive(Debug, Clone, Default)]
pub(super) struct OptionArgs<const NEW: bool> {
    given: Vec<&'static NetworkOption>,
    values: NetworkOptions,
}

fn offered<const NEW: bool>() -> impl Iterator<Item = &'static NetworkOption> {
    NetworkOptions::ALL.iter().filter(|option| NEW || option.changes)
}

fn argument(option: &NetworkOption) -> Arg {
    let arg = Arg::new(option.name).long(option.flag()).help(option.about.trim().trim_end_matches('.'));
    let choices = (option.choices)();
    if choices.is_empty() {
        return arg.value_name(option.value);
    }
    let choices = choices.into_iter().map(|choice| PossibleValue::new(choice.word).help(choice.help));
    arg.value_name(option.name.to_ascii_uppercase()).value_parser(PossibleValuesParser::new(choices))
}

impl<const NEW: bool> Args for OptionArgs<NEW> {
    fn augment_args(command: Command) -> Command {
        let usual = NetworkOptions::default();
        command.args(offered::<NEW>().map(|option| match option.get(&usual) {
            Some(default) if NEW => argument(option).default_value(default),
            _ => argument(option),
        }))
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl<const NEW: bool> FromArgMatches for OptionArgs<NEW> {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let mut args = Self::default();
        for option in offered::<NEW>() {
            let Some(text) = matches.get_one::<String>(option.name) else { continue };
            option.set(&mut args.values, text).map_err(|error| {
                clap::Error::raw(ErrorKind::InvalidValue, format!("--{}: {error}\n", option.flag()))
            })?;
            args.given.push(option);
        }
        Ok(args)
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

impl<const NEW: bool> OptionArgs<NEW> {
    /// What was given, by name, as a person writes it.
    pub(super) fn texts(&self) -> BTreeMap<String, String> {
        let text = |option: &NetworkOption| option.get(&self.values).unwrap_or_else(|| "auto".to_owned());
        self.given.iter().map(|option| (option.name.to_owned(), text(option))).collect()
    }

    /// Sets in `options` what was given.
    pub(super) fn apply(&self, options: &mut NetworkOptions) {
        for option in &self.given {
            option.copy(&self.values, options);
        }
    }
}
