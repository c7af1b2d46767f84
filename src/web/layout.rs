//! The frame of every page: title, navigation, what is in it.

use axum::response::Html;
use maud::{DOCTYPE, Markup, html};

use super::access::Caller;

/// Address and English name of each page, in the order of the navigation.
pub const PAGES: &[(&str, &str)] = &[
    ("/", "Overview"),
    ("/studies", "Studies"),
    ("/volumes", "Volumes"),
    ("/peers", "Peers"),
    ("/forwarding", "Forwarding"),
    ("/jobs", "Jobs"),
    ("/journal", "Journal"),
    ("/conflicts", "Conflicts and quarantine"),
];

/// `here`: the address of the page in [`PAGES`].
pub fn page(caller: &Caller, here: &str, title: &str, body: Markup) -> Html<String> {
    let language = caller.language;
    let text = html! {
        (DOCTYPE)
        html lang=(language.tag()) {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="htmx-config" content=r#"{"allowEval":false,"includeIndicatorStyles":false,"selfRequestsOnly":true}"#;
                title { (title) " · Kura" }
                link rel="stylesheet" href="/assets/kura.css";
                script src="/assets/htmx.min.js" defer {}
            }
            body {
                header {
                    nav aria-label=(language.say("Pages")) {
                        @for (address, name) in PAGES {
                            a href=(address) aria-current=[(*address == here).then_some("page")] { (language.say(name)) }
                        }
                    }
                }
                main id="main" { (body) }
            }
        }
    };
    Html(text.into_string())
}
