//! Panics, ours and those of libraries: a user gets a sentence and never a panic's text.

use std::any::Any;
use std::cell::{Cell, RefCell};
use std::panic::{AssertUnwindSafe, PanicHookInfo, catch_unwind};
use std::sync::Once;

thread_local! {
    /// Whether this thread is in [`contained`].
    static CONTAINED: Cell<bool> = const { Cell::new(false) };
    /// What the last panic in there said, and where.
    static SAID: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// Runs `work`; what it panics with is the error, and is printed nowhere. For libraries that panic where they meet
/// what they did not expect. What `work` changed when it panicked must not be used any more.
///
/// # Errors
/// The panic's words and place, for the log.
pub fn contained<T>(work: impl FnOnce() -> T) -> Result<T, String> {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            if CONTAINED.get() {
                SAID.set(Some(told(info)));
            } else {
                before(info);
            }
        }));
    });
    let outer = CONTAINED.replace(true);
    let done = catch_unwind(AssertUnwindSafe(work));
    CONTAINED.set(outer);
    done.map_err(|_| SAID.take().unwrap_or_else(|| "it gave no reason".to_owned()))
}

/// Says in one line, in the log or where there is none on standard error, that there is a fault in the program.
pub fn install() {
    std::panic::set_hook(Box::new(|info| {
        let told = told(info);
        if tracing::dispatcher::has_been_set() {
            tracing::error!("a fault inside lanmesh: {told}; please report it");
        } else {
            eprintln!("lanmesh: a fault inside lanmesh: {told}; please report it");
        }
    }));
}

fn told(info: &PanicHookInfo<'_>) -> String {
    let words = words(info.payload());
    let words = words.split_whitespace().collect::<Vec<_>>().join(" ");
    match info.location() {
        Some(place) => format!("{words} ({}:{})", place.file(), place.line()),
        None => words,
    }
}

fn words(payload: &dyn Any) -> &str {
    let text = payload.downcast_ref::<&str>().copied();
    text.or_else(|| payload.downcast_ref::<String>().map(String::as_str)).unwrap_or("no words")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_is_an_error_with_its_words_and_place_and_the_next_call_goes_on() {
        let error = contained(|| -> u8 { panic!("on\npage {}", 7) }).expect_err("panics");
        assert!(error.starts_with("on page 7 (") && error.contains("fault.rs"), "{error}");
        assert_eq!(contained(|| 3), Ok(3));
        let nested = contained(|| contained(|| -> u8 { panic!("inner") }));
        assert!(matches!(nested, Ok(Err(error)) if error.contains("inner")));
    }
}
