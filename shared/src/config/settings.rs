//! Reading settings: a flag, else the environment, else the default; every fault kept until the end.

use std::{
    collections::{BTreeMap, BTreeSet},
    ffi::OsString,
    fmt, fs,
    io::Write as _,
};

use super::Secret;

/// The exit status of a program that was given bad settings (sysexits' `EX_USAGE`).
pub const EX_USAGE: u8 = 64;

/// What a setting is when nobody gives it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Default {
    /// A fault: it has to be given.
    Required,
    /// This, as it would be written.
    To(&'static str),
    /// Nothing, and what that means.
    Unset(&'static str),
}

/// A subcommand that a program knows, besides serving, which is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Command {
    /// As it is typed.
    pub name: &'static str,
    /// For `--help`.
    pub about: &'static str,
}

/// One thing wrong with the settings: which variable, and what it should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The variable's name, or the flag as it was typed if it belongs to none.
    pub name: String,
    /// What it should be. Never a secret's value.
    pub problem: String,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.name, self.problem)
    }
}

/// Why a program ends before it began.
#[derive(Debug, PartialEq, Eq)]
pub enum Stop {
    /// It was asked for help, and this is it.
    Help(String),
    /// Its settings have faults: at least one.
    Faults(Vec<Fault>),
}

impl Stop {
    /// The status to exit with.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Help(_) => 0,
            Self::Faults(_) => EX_USAGE,
        }
    }

    /// Says it: help on standard output, faults on standard error, one per line.
    pub fn print(&self) {
        // Nobody is left to tell if these can't be written.
        let _ = match self {
            Self::Help(text) => std::io::stdout().lock().write_all(text.as_bytes()),
            Self::Faults(_) => std::io::stderr().lock().write_all(self.to_string().as_bytes()),
        };
    }
}

impl fmt::Display for Stop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Help(text) => f.write_str(text),
            Self::Faults(faults) => faults.iter().try_for_each(|fault| writeln!(f, "{fault}")),
        }
    }
}

/// Arguments and environment of one program, and what was read from them so far.
#[derive(Debug)]
pub struct Settings {
    program: &'static str,
    about: &'static str,
    commands: &'static [Command],
    command: Option<&'static str>,
    help: bool,
    /// By flag name, without dashes; `None` if it was given without a value.
    flags: BTreeMap<String, Option<String>>,
    environment: BTreeMap<String, OsString>,
    known: BTreeSet<String>,
    usage: Vec<Usage>,
    faults: Vec<Fault>,
}

/// A line of `--help`.
#[derive(Debug)]
struct Usage {
    name: &'static str,
    secret: bool,
    default: Default,
    meaning: &'static str,
}

impl Settings {
    /// The settings of this process.
    pub fn from_process(program: &'static str, about: &'static str, commands: &'static [Command]) -> Self {
        // What is not Unicode stays recognisably wrong, and is a fault where it is read.
        let arguments = std::env::args_os().skip(1).map(|argument| argument.to_string_lossy().into_owned());
        let environment = std::env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value)));
        Self::new(program, about, commands, arguments, environment)
    }

    /// The settings in these arguments, without the program's own name, and this environment.
    ///
    /// Every flag takes a value, `--name value` or `--name=value`; only `--help` has none. The first argument that is no
    /// flag is the subcommand, one of `commands`.
    pub fn new(
        program: &'static str,
        about: &'static str,
        commands: &'static [Command],
        arguments: impl IntoIterator<Item = String>,
        environment: impl IntoIterator<Item = (String, OsString)>,
    ) -> Self {
        let mut settings = Self {
            program,
            about,
            commands,
            command: None,
            help: false,
            flags: BTreeMap::new(),
            environment: environment.into_iter().collect(),
            known: BTreeSet::new(),
            usage: Vec::new(),
            faults: Vec::new(),
        };
        settings.take(arguments);
        settings
    }

    /// The subcommand, one of those that the program knows; none means to serve.
    pub fn command(&self) -> Option<&'static str> {
        self.command
    }

    /// Reads a setting from its flag, else its variable, else its default.
    ///
    /// `None` means that there was a fault, which [`Settings::finish`] will tell. `parse` answers with what the value
    /// should be (“must be …”) when it isn't that; it decides about the default too, which must please it.
    pub fn get<T>(
        &mut self,
        name: &'static str,
        default: Default,
        meaning: &'static str,
        parse: impl FnOnce(&str) -> Result<T, String>,
    ) -> Option<T> {
        let text = match self.text(name, default, meaning, false)? {
            Some(text) => text,
            None => return self.fault(name, "is required", meaning),
        };
        match parse(&text) {
            Ok(value) => Some(value),
            Err(problem) => self.fault(name, &format!("{problem}, but is {:?}", without_userinfo(&text)), meaning),
        }
    }

    /// Like [`Settings::get`], of a setting that may stay unset: then it is `Some(None)`.
    pub fn optional<T>(
        &mut self,
        name: &'static str,
        unset: &'static str,
        meaning: &'static str,
        parse: impl FnOnce(&str) -> Result<T, String>,
    ) -> Option<Option<T>> {
        let Some(text) = self.text(name, Default::Unset(unset), meaning, false)? else { return Some(None) };
        match parse(&text) {
            Ok(value) => Some(Some(value)),
            Err(problem) => self.fault(name, &format!("{problem}, but is {:?}", without_userinfo(&text)), meaning),
        }
    }

    /// Like [`Settings::get`], of a setting whose empty text means something: the same as having no value at all.
    pub fn get_or_empty<T>(
        &mut self,
        name: &'static str,
        default: Default,
        meaning: &'static str,
        parse: impl FnOnce(&str) -> Result<T, String>,
    ) -> Option<T> {
        let text = self.text(name, default, meaning, true)?.unwrap_or_default();
        match parse(&text) {
            Ok(value) => Some(value),
            Err(problem) => self.fault(name, &format!("{problem}, but is {:?}", without_userinfo(&text)), meaning),
        }
    }

    /// Reads a required secret from its variable, or from the file that `<NAME>_FILE` names, without the newlines at its
    /// end. No flag gives it, and no fault shows it.
    pub fn secret<T>(
        &mut self,
        name: &'static str,
        meaning: &'static str,
        parse: impl FnOnce(&str) -> Result<T, String>,
    ) -> Option<T> {
        self.usage.push(Usage { name, secret: true, default: Default::Required, meaning });
        let file_name = format!("{name}_FILE");
        for flag in [flag_name(name), flag_name(&file_name)] {
            self.known.insert(flag.clone());
            if self.flags.contains_key(&flag) {
                let problem = format!("is a secret, so no flag gives it: set {name} or {file_name}");
                self.faults.push(Fault { name: format!("--{flag}"), problem });
            }
        }
        let value = self.variable(name, meaning, false);
        let path = self.variable(&file_name, meaning, false);
        let text = match (value?, path?) {
            (Some(_), Some(_)) => return self.fault(name, &format!("is given by {file_name} too: keep one"), meaning),
            (None, None) => return self.fault(name, &format!("is required (or {file_name})"), meaning),
            (Some(value), None) => value,
            (None, Some(path)) => match fs::read_to_string(&path) {
                Ok(text) => text.trim_end_matches(['\n', '\r']).to_owned(),
                Err(error) => return self.fault(&file_name, &format!("can't be read from {path:?}: {error}"), meaning),
            },
        };
        match parse(&text) {
            Ok(value) => Some(value),
            Err(problem) => self.fault(name, &problem, meaning),
        }
    }

    /// A required secret that goes into a header: printable ASCII without spaces.
    pub fn secret_token(&mut self, name: &'static str, meaning: &'static str) -> Option<Secret> {
        self.secret(name, meaning, |text| match text {
            "" => Err("must not be empty".to_owned()),
            text if text.bytes().all(|byte| byte.is_ascii_graphic()) => Ok(Secret::new(text)),
            _ => Err("must be printable ASCII without spaces".to_owned()),
        })
    }

    /// Adds a fault that only several settings together have.
    pub fn refuse(&mut self, name: &'static str, problem: impl Into<String>) {
        self.faults.push(Fault { name: name.to_owned(), problem: problem.into() });
    }

    /// What was read, if all of it was in order.
    ///
    /// # Errors
    ///
    /// Help was asked for, or there are faults: all of them, those of flags that no setting has included.
    pub fn finish<T>(mut self, read: Option<T>) -> Result<T, Stop> {
        if self.help {
            return Err(Stop::Help(self.usage()));
        }
        for flag in self.flags.keys().filter(|flag| !self.known.contains(*flag)) {
            self.faults.push(Fault { name: format!("--{flag}"), problem: "no such flag: see --help".to_owned() });
        }
        match read {
            Some(read) if self.faults.is_empty() => Ok(read),
            _ => Err(Stop::Faults(self.faults)),
        }
    }

    fn take(&mut self, arguments: impl IntoIterator<Item = String>) {
        let mut arguments = arguments.into_iter().peekable();
        while let Some(argument) = arguments.next() {
            if argument == "--help" || argument == "-h" {
                self.help = true;
            } else if let Some(flag) = argument.strip_prefix("--") {
                let (flag, value) = match flag.split_once('=') {
                    Some((flag, value)) => (flag, Some(value.to_owned())),
                    None => (flag, arguments.next_if(|next| !next.starts_with("--"))),
                };
                if self.flags.insert(flag.to_owned(), value).is_some() {
                    self.faults.push(Fault { name: format!("--{flag}"), problem: "is given twice".to_owned() });
                }
            } else {
                self.take_command(&argument);
            }
        }
    }

    fn take_command(&mut self, argument: &str) {
        let command = self.commands.iter().find(|command| command.name == argument);
        match (command, self.command) {
            (Some(command), None) => self.command = Some(command.name),
            // Not shown: it may be a secret in the wrong place.
            _ => {
                let names: Vec<_> = self.commands.iter().map(|command| command.name).collect();
                let problem = match names[..] {
                    [] => "there is none but flags, which begin with --".to_owned(),
                    _ => format!("only one of these may stand there: {}", names.join(", ")),
                };
                self.faults.push(Fault { name: "argument".to_owned(), problem });
            }
        }
    }

    /// A setting's text: `Some(None)` if nobody gave it and it has no default, `None` if there was a fault.
    fn text(
        &mut self,
        name: &'static str,
        default: Default,
        meaning: &'static str,
        may_be_empty: bool,
    ) -> Option<Option<String>> {
        self.usage.push(Usage { name, secret: false, default, meaning });
        let flag = flag_name(name);
        self.known.insert(flag.clone());
        let given = match self.flags.get(&flag) {
            Some(Some(value)) if value.is_empty() && !may_be_empty => {
                return self.fault(name, "must not be empty", meaning);
            }
            Some(Some(value)) => Some(value.clone()),
            Some(None) => return self.fault(name, &format!("--{flag} needs a value"), meaning),
            None => self.variable(name, meaning, may_be_empty)?,
        };
        Some(given.or(match default {
            Default::To(text) => Some(text.to_owned()),
            Default::Required | Default::Unset(_) => None,
        }))
    }

    fn variable(&mut self, name: &str, meaning: &'static str, may_be_empty: bool) -> Option<Option<String>> {
        match self.environment.get(name).map(|value| value.to_str()) {
            None => Some(None),
            Some(None) => self.fault(name, "must be Unicode text", meaning),
            Some(Some("")) if !may_be_empty => {
                self.fault(name, "must not be empty: leave it out, or give it a value", meaning)
            }
            Some(Some(value)) => Some(Some(value.to_owned())),
        }
    }

    fn fault<T>(&mut self, name: &str, problem: &str, meaning: &str) -> Option<T> {
        self.faults.push(Fault { name: name.to_owned(), problem: format!("{problem} ({meaning})") });
        None
    }

    fn usage(&self) -> String {
        let Self { program, about, .. } = self;
        let command = if self.commands.is_empty() { "" } else { " [COMMAND]" };
        let mut text = format!("{about}\n\nUsage: {program}{command} [--name value]…\n");
        if !self.commands.is_empty() {
            text.push_str("\nCommands (none: serve):\n");
            for Command { name, about } in self.commands {
                text.push_str(&format!("  {name:<12} {about}\n"));
            }
        }
        text.push_str("\nSettings, each a flag or else the environment variable:\n");
        for Usage { name, secret, default, meaning } in &self.usage {
            let default = match default {
                Default::Required => "required".to_owned(),
                Default::To("") => "default: empty".to_owned(),
                Default::To(text) => format!("default: {text}"),
                Default::Unset(meaning) => format!("default: {meaning}"),
            };
            match secret {
                true => text.push_str(&format!("  {name}, or {name}_FILE: secret, so no flag\n")),
                false => text.push_str(&format!("  --{}, {name}\n", flag_name(name))),
            }
            text.push_str(&format!("      {meaning} [{default}]\n"));
        }
        text.push_str("  --help\n      prints this\n");
        text
    }
}

/// A setting as it may be shown: what stands before the host of a URL may be a password.
fn without_userinfo(text: &str) -> String {
    if let Some((scheme, rest)) = text.split_once("://") {
        let authority = rest.split(['/', '?', '#']).next().unwrap_or(rest);
        if let Some(at) = authority.rfind('@') {
            return format!("{scheme}://…{}", &rest[at..]);
        }
    }
    text.to_owned()
}

fn flag_name(variable: &str) -> String {
    variable.to_lowercase().replace('_', "-")
}
