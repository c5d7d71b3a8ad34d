//! How answers are printed: JSON for programs, plain columns for people.

use std::fmt::Display;
use std::io::{self, Write};

use comfy_table::{Table, presets};
use serde::Serialize;

use super::CliError;

/// Prints `text` as it is. A reader that has seen enough (`| head`) is no error.
pub(super) fn print(text: &str) -> Result<(), CliError> {
    if cfg!(test) {
        // The test harness captures only what goes through the macro.
        print!("{text}");
        return Ok(());
    }
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(CliError::Io { what: "cannot write to the output".to_owned(), source: error })
        }
        _ => Ok(()),
    }
}

/// Prints `value` as one JSON document.
pub(super) fn json<T: Serialize + ?Sized>(value: &T) -> Result<(), CliError> {
    print(&format!("{}\n", serde_json::to_string_pretty(value)?))
}

/// Columns without borders, as `kubectl get` and `docker ls` print them.
pub(super) fn table<const N: usize>(
    header: [&str; N],
    rows: impl IntoIterator<Item = [String; N]>,
) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_header(header);
    table.add_rows(rows);
    for column in table.column_iter_mut() {
        column.set_padding((0, 3));
    }
    let mut text = table.trim_fmt();
    text.push('\n');
    text
}

/// The values with commas between them; `-` when there are none.
pub(super) fn list<T: Display>(values: impl IntoIterator<Item = T>) -> String {
    let text = values.into_iter().map(|value| value.to_string()).collect::<Vec<_>>().join(",");
    if text.is_empty() { "-".to_owned() } else { text }
}

/// A value as its JSON string has it, so that tables and JSON use one word for one thing.
pub(super) fn word<T: Serialize>(value: &T) -> String {
    match serde_json::to_value(value) {
        Ok(serde_json::Value::String(text)) => text,
        Ok(other) => other.to_string(),
        Err(_) => "-".to_owned(),
    }
}

/// Prints what was done: `{"removed": …}` for programs, one of two sentences for people.
pub(super) fn removed(json: bool, removed: bool, yes: &str, no: &str) -> Result<(), CliError> {
    if json {
        return self::json(&crate::api::types::RemovedAnswer { removed });
    }
    print(&format!("{}\n", if removed { yes } else { no }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_plain_and_end_without_spaces() {
        let text = table(["NAME", "STATE"], [["a-long-name".to_owned(), "up".to_owned()]]);
        assert_eq!(text, "NAME          STATE\na-long-name   up\n");
    }
}
