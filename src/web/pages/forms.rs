//! What pages with forms share: fields that keep what was typed, a refusal at its form, the page before something is done
//! that cannot be taken back, and what moves by itself.

use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use maud::{Markup, html};

use crate::web::access::Caller;
use crate::web::parts::{self, Tone};
use crate::web::said::{self, Said};
use crate::web::{Site, layout};

/// The fields of a form, in the order in which they came.
pub type Fields = Vec<(String, String)>;

/// The field that a page in between adds: the person has read it.
const SURE: &str = "sure";
/// htmx stops asking for a fragment that is answered with this.
const STOP_POLLING: u16 = 286;

/// A form as it was sent, and why it was refused.
#[derive(Debug, Clone, Default)]
pub struct Typed {
    form: &'static str,
    values: Fields,
    refused: String,
}

impl Typed {
    pub fn new(form: &'static str, values: Fields) -> Typed {
        Typed {
            form,
            values,
            refused: String::new(),
        }
    }

    pub fn refused(self, reason: impl Into<String>) -> Typed {
        Typed {
            refused: reason.into(),
            ..self
        }
    }

    /// Without the spaces around it; empty where it was not sent.
    pub fn text(&self, name: &str) -> &str {
        let mut all = self.values.iter();
        all.find(|(known, _)| known == name)
            .map_or("", |(_, text)| text.trim())
    }

    /// `None` for an empty one.
    pub fn given(&self, name: &str) -> Option<String> {
        Some(self.text(name).to_owned()).filter(|text| !text.is_empty())
    }

    /// Of a box that may be ticked several times.
    pub fn all(&self, name: &str) -> Vec<String> {
        let all = self.values.iter().filter(|(known, _)| known == name);
        all.map(|(_, text)| text.trim().to_owned())
            .filter(|text| !text.is_empty())
            .collect()
    }

    pub fn ticked(&self, name: &str) -> bool {
        self.values.iter().any(|(known, _)| known == name)
    }

    pub fn is_sure(&self) -> bool {
        self.ticked(SURE)
    }

    /// An empty field is `None`; the error is for what is no number.
    pub fn number<N: std::str::FromStr>(&self, name: &str) -> Result<Option<N>, String> {
        let text = self.text(name);
        if text.is_empty() {
            return Ok(None);
        }
        let number = text.parse();
        number.map(Some).map_err(|_| format!("{text} is no number"))
    }
}

/// The fields of one form on a page.
pub struct Form<'a> {
    pub typed: &'a Typed,
    pub caller: &'a Caller,
    pub name: &'static str,
}

impl<'a> Form<'a> {
    pub fn new(caller: &'a Caller, typed: &'a Typed, name: &'static str) -> Form<'a> {
        Form {
            typed,
            caller,
            name,
        }
    }

    fn is_this(&self) -> bool {
        self.typed.form == self.name
    }

    /// What was typed, else what is so now.
    fn value<'v>(&'v self, field: &str, now: &'v str) -> &'v str {
        match self.is_this() {
            true => self.typed.text(field),
            false => now,
        }
    }

    fn id(&self, field: &str) -> String {
        format!("{}-{field}", self.name)
    }

    fn input(&self, kind: &str, field: &str, label: &str, now: &str, needed: bool) -> Markup {
        let id = self.id(field);
        html! {
            div.field {
                label for=(id) { (label) }
                input type=(kind) id=(id) name=(field) value=(self.value(field, now)) required[needed]
                    autocomplete="off" spellcheck="false";
            }
        }
    }

    pub fn text(&self, field: &str, label: &str, now: &str) -> Markup {
        self.input("text", field, label, now, false)
    }

    /// The browser asks for it.
    pub fn needed(&self, field: &str, label: &str, now: &str) -> Markup {
        self.input("text", field, label, now, true)
    }

    pub fn number(&self, field: &str, label: &str, now: &str) -> Markup {
        self.input("number", field, label, now, false)
    }

    pub fn date(&self, field: &str, label: &str, now: &str) -> Markup {
        self.input("date", field, label, now, false)
    }

    /// `choices`: value and text.
    pub fn choice(&self, field: &str, label: &str, choices: &[(&str, &str)], now: &str) -> Markup {
        let id = self.id(field);
        let chosen = self.value(field, now);
        html! {
            div.field {
                label for=(id) { (label) }
                select id=(id) name=(field) {
                    @for (value, text) in choices {
                        option value=(value) selected[*value == chosen] { (text) }
                    }
                }
            }
        }
    }

    pub fn tick(&self, field: &str, label: &str, now: bool) -> Markup {
        let id = self.id(field);
        let ticked = match self.is_this() {
            true => self.typed.ticked(field),
            false => now,
        };
        html! {
            div.field {
                label for=(id) {
                    input type="checkbox" id=(id) name=(field) value="yes" checked[ticked];
                    " " (label)
                }
            }
        }
    }

    /// Boxes of which several may be ticked; what is sent is the text of each.
    pub fn ticks(&self, field: &str, label: &str, choices: &[&str]) -> Markup {
        let ticked = match self.is_this() {
            true => self.typed.all(field),
            false => Vec::new(),
        };
        html! {
            fieldset.field {
                legend { (label) }
                @for (at, choice) in choices.iter().enumerate() {
                    @let id = format!("{}-{at}", self.id(field));
                    label for=(id) {
                        input type="checkbox" id=(id) name=(field) value=(choice) checked[ticked.iter().any(|one| one == choice)];
                        " " (choice)
                    }
                }
            }
        }
    }

    /// Why it was refused, if it was.
    pub fn refusal(&self) -> Markup {
        let refused = self.is_this() && !self.typed.refused.is_empty();
        html! {
            @if refused {
                (refusal(self.caller, &self.typed.refused))
            }
        }
    }
}

/// What could not be done, in the server's words.
pub fn refusal(caller: &Caller, reason: &str) -> Markup {
    let text = caller.language.sentence(reason);
    html! { div role="alert" { (parts::notice(Tone::Bad, html! { (text) })) } }
}

/// The person has read the page in between: in the form of such a page.
pub fn sure() -> Markup {
    html! { input type="hidden" name=(SURE) value="yes"; }
}

/// The page in between: what will happen, and the same form once more, with a button that does it.
pub fn between(
    caller: &Caller,
    typed: &Typed,
    address: &str,
    will_happen: Markup,
    label: &str,
    back: &str,
) -> Markup {
    let kept = typed.values.iter().filter(|(name, _)| name != SURE);
    let mut fields: Vec<(&str, &str)> = kept.map(|(n, v)| (n.as_str(), v.as_str())).collect();
    fields.push((SURE, "yes"));
    parts::ask_first(caller.language, will_happen, address, label, &fields, back)
}

/// The answer to what htmx asks for again and again; `over`: it moves no more.
pub fn fragment(body: Markup, over: bool) -> Response {
    let status = match over {
        true => StatusCode::from_u16(STOP_POLLING).unwrap_or(StatusCode::OK),
        false => StatusCode::OK,
    };
    let kind = [(header::CONTENT_TYPE, "text/html; charset=utf-8")];
    (status, kind, body.into_string()).into_response()
}

/// A whole page. One whose form was refused says so by its status (RFC 9110 15.5.21).
pub fn page(caller: &Caller, here: &str, title: &str, typed: &Typed, body: Markup) -> Response {
    let page = layout::page(caller, here, title, body);
    match typed.refused.is_empty() {
        true => page.into_response(),
        false => (StatusCode::UNPROCESSABLE_ENTITY, page).into_response(),
    }
}

/// A page that says why there is nothing to show.
pub fn nothing(caller: &Caller, here: &str, title: &str, reason: &str) -> Response {
    let body = html! {
        h1 { (title) }
        (refusal(caller, reason))
        p { a href=(here) { (caller.language.say("Back")) } }
    };
    let page = layout::page(caller, here, title, body);
    (StatusCode::NOT_FOUND, page).into_response()
}

/// Back to a page, with what was done; what changed shows in the frame of the next page.
pub fn done(site: &Site, address: &str, text: impl Into<String>) -> Response {
    site.status.is_stale();
    let said = Said {
        is_good: true,
        text: text.into(),
    };
    said::back(site, address, said)
}

/// Back to a page of which no form was refused: its buttons alone have no place for the reason.
pub fn not_done(site: &Site, address: &str, reason: impl Into<String>) -> Response {
    let said = Said {
        is_good: false,
        text: reason.into(),
    };
    said::back(site, address, said)
}

/// What only another version of this program would answer.
pub fn something_else() -> String {
    "the server answered something else; please report it".to_owned()
}

/// Parts of an address (RFC 3986 3.3): what came from people is one segment each, whatever is in it.
pub fn address(parts: &[&str]) -> String {
    let mut text = String::new();
    for part in parts {
        text.push('/');
        text.push_str(&encoded(part));
    }
    text
}

/// One value in an address (RFC 3986 2.1).
pub fn encoded(text: &str) -> String {
    let mut encoded = String::new();
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => {
                encoded.push(char::from(byte));
            }
            _ => encoded.push_str(&format!("%{byte:02X}")),
        }
    }
    encoded
}

/// The names and values behind the `?` of an address; empty ones are left out.
pub fn query(values: &[(&str, &str)]) -> String {
    let given = values.iter().filter(|(_, value)| !value.is_empty());
    let pairs: Vec<String> = given
        .map(|(name, value)| format!("{}={}", encoded(name), encoded(value)))
        .collect();
    match pairs.is_empty() {
        true => String::new(),
        false => format!("?{}", pairs.join("&")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_people_typed_is_one_segment_of_an_address() {
        assert_eq!(
            address(&["peer", "A/B ?#../é"]),
            "/peer/A%2FB%20%3F%23..%2F%C3%A9"
        );
        assert_eq!(query(&[("peer", ""), ("q", "a&b=c")]), "?q=a%26b%3Dc");
        assert_eq!(query(&[]), "");
    }
}
