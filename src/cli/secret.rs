//! The token as a command takes it, without showing it to everybody who lists processes.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, IsTerminal, Read};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::Command;

use super::CliError;

/// Where the token is when it is neither named nor given: only the same user may read another process's environment.
const VARIABLE: &str = "LANMESH_TOKEN";
/// No token is as long as this.
const MOST: u64 = 4096;

#[derive(Debug, clap::Args)]
#[group(multiple = false)]
pub(super) struct Secret {
    /// The token that `lanmesh token show` prints; '-' reads it from standard input [default: LANMESH_TOKEN in the
    /// environment]
    #[arg(long)]
    token: Option<String>,
    /// A file that holds it; '-' is standard input
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
}

impl Secret {
    /// The token.
    pub(super) fn read(self) -> Result<String, CliError> {
        let token = match (self.token.as_deref(), self.token_file) {
            (Some("-"), _) => from_input()?,
            (Some(token), _) => token.to_owned(),
            (None, Some(path)) if path.as_os_str() == "-" => from_input()?,
            (None, Some(path)) => {
                let failed = |source| CliError::Io {
                    what: format!("cannot read {}: give --token-file what `lanmesh token show` prints", path.display()),
                    source,
                };
                read(File::open(&path).map_err(failed)?).map_err(failed)?
            }
            (None, None) => std::env::var(VARIABLE).map_err(|_| {
                CliError::Usage(format!(
                    "there is no token: give --token - and write it to standard input, --token-file FILE, or set {VARIABLE}"
                ))
            })?,
        };
        // The token is the first line: `token show` prints the command to join with after it.
        let first = token.lines().map(str::trim).find(|line| !line.is_empty());
        first.map(str::to_owned).ok_or_else(|| {
            CliError::Usage("the token is empty: `lanmesh token show` on the manager prints it".to_owned())
        })
    }

    /// Whether everybody can read it in the process list now.
    pub(super) fn is_shown(&self) -> bool {
        self.token.as_deref().is_some_and(|token| token != "-")
    }
}

fn from_input() -> Result<String, CliError> {
    let input = io::stdin();
    if input.is_terminal() {
        eprint!("Token: ");
        let mut line = String::new();
        return input.read_line(&mut line).map(|_| line).map_err(not_read);
    }
    read(input.lock()).map_err(not_read)
}

fn not_read(source: io::Error) -> CliError {
    CliError::Io { what: "cannot read the token from standard input".to_owned(), source }
}

fn read(from: impl Read) -> io::Result<String> {
    let mut text = String::new();
    from.take(MOST).read_to_string(&mut text)?;
    Ok(text)
}

/// Becomes the same command with the token in its environment instead of its arguments, so that it is in the process
/// list for a moment only. Returns where that cannot be done: the command works all the same.
pub(super) fn hide() {
    let Some((rest, token)) = without_token(std::env::args_os().skip(1)) else { return };
    if let Ok(program) = std::env::current_exe() {
        let _ = Command::new(program).args(rest).env(VARIABLE, token).exec();
    }
}

/// The arguments but for the token, and the token.
fn without_token(arguments: impl Iterator<Item = OsString>) -> Option<(Vec<OsString>, OsString)> {
    let (mut rest, mut token) = (Vec::new(), None);
    let mut arguments = arguments.peekable();
    while let Some(argument) = arguments.next() {
        if token.is_none() && argument == "--token" {
            token = arguments.next();
        } else if let Some(value) =
            argument.to_str().filter(|_| token.is_none()).and_then(|a| a.strip_prefix("--token="))
        {
            token = Some(value.into());
        } else {
            rest.push(argument);
        }
    }
    token.map(|token| (rest, token))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secret(token: Option<&str>, file: Option<PathBuf>) -> Secret {
        Secret { token: token.map(str::to_owned), token_file: file }
    }

    #[test]
    fn a_token_in_a_file_is_its_first_line_and_one_that_is_empty_is_wrong_usage() {
        let dir = tempfile::tempdir().expect("a directory");
        let file = dir.path().join("token");
        std::fs::write(&file, "\nLMT1-ab-cd\n\nTo add a node, run on it: …\n").expect("writes");
        assert_eq!(secret(None, Some(file.clone())).read().expect("reads"), "LMT1-ab-cd");
        std::fs::write(&file, "\n").expect("writes");
        assert!(matches!(secret(None, Some(file)).read(), Err(CliError::Usage(_))));
        let absent = secret(None, Some(dir.path().join("absent"))).read().expect_err("is not there");
        assert!(absent.to_string().contains("--token-file"), "{absent}");
        assert_eq!(secret(Some("t"), None).read().expect("is there"), "t");
    }

    #[test]
    fn the_token_is_taken_out_of_the_arguments_however_it_is_written() {
        for (line, expected) in [
            ("join --token t h --wait", Some(("join h --wait", "t"))),
            ("--json join h --token=t", Some(("--json join h", "t"))),
            ("join --token-file f h", None),
        ] {
            let split = without_token(line.split(' ').map(OsString::from));
            let split = split.map(|(rest, token)| {
                let rest: Vec<_> = rest.iter().map(|word| word.to_string_lossy()).collect();
                (rest.join(" "), token.to_string_lossy().into_owned())
            });
            assert_eq!(split, expected.map(|(rest, token)| (rest.to_owned(), token.to_owned())));
        }
    }
}
