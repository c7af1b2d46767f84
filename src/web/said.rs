//! What a form did, told on the page that comes after it.
//!
//! The text stays here, and the browser gets a number that says nothing and is good once: a link that somebody sends can
//! put no words on a page.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};

use super::Site;
use crate::control;

/// Holds the number.
pub const COOKIE: &str = "kura-said";
/// Kept at most; what nobody came for goes first.
const SAYINGS_MAX: usize = 100;
/// A page that was not loaded for so long after the form does not tell it, seconds.
const AGE_MAX: u32 = 60;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Said {
    pub is_good: bool,
    /// A sentence of this program, in English, or of the page, in the language of the person.
    pub text: String,
}

/// What was said to nobody yet.
#[derive(Clone, Default)]
pub struct Sayings(Arc<Mutex<VecDeque<(String, Said)>>>);

impl Sayings {
    fn keep(&self, said: Said) -> String {
        let number = uuid::Uuid::new_v4().simple().to_string();
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if all.len() == SAYINGS_MAX {
            all.pop_front();
        }
        all.push_back((number.clone(), said));
        number
    }

    pub fn take(&self, number: &str) -> Option<Said> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let at = all.iter().position(|(kept, _)| kept == number)?;
        all.remove(at).map(|(_, said)| said)
    }
}

/// Back to a page after a form (RFC 9110 15.4.4), with what became of it.
pub fn back(site: &Site, page: &str, said: Said) -> Response {
    let number = site.sayings.keep(said);
    let cookie = format!("{COOKIE}={number}; Path=/; Max-Age={AGE_MAX}; HttpOnly; SameSite=Strict");
    let headers = [(header::LOCATION, page), (header::SET_COOKIE, &cookie)];
    (StatusCode::SEE_OTHER, headers).into_response()
}

/// As [`back`], with what `control` answered. `done`: said where the answer has no words of its own.
pub fn back_with(site: &Site, page: &str, answer: &control::Response, done: &str) -> Response {
    let (is_good, text) = match answer {
        control::Response::Failed { reason } => (false, reason.clone()),
        control::Response::Said(said) => (true, said.clone()),
        _ => (true, done.to_owned()),
    };
    back(site, page, Said { is_good, text })
}

/// The value of a cookie (RFC 6265 4.2).
pub fn cookie(headers: &HeaderMap, name: &str) -> Option<String> {
    let lines = headers.get_all(header::COOKIE).into_iter();
    let lines = lines.filter_map(|line| line.to_str().ok());
    let mut pairs = lines
        .flat_map(|line| line.split(';'))
        .filter_map(|pair| pair.trim().split_once('='));
    let found = pairs.find(|(key, _)| *key == name);
    found.map(|(_, value)| value.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_saying_is_told_once_and_the_oldest_go_first() {
        let sayings = Sayings::default();
        let said = |text: &str| Said {
            is_good: true,
            text: text.to_owned(),
        };
        let first = sayings.keep(said("first"));
        let later = (0..SAYINGS_MAX).map(|n| sayings.keep(said(&n.to_string())));
        let later: Vec<_> = later.collect();
        let last = later.last().unwrap();
        assert_eq!(sayings.take(&first), None);
        assert_eq!(sayings.take(last).unwrap().text, "99");
        assert_eq!(sayings.take(last), None);
    }
}
