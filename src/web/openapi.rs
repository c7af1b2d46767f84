//! The description of the API (OpenAPI 3.1), made from the types of requests and answers: what is not in it there is not,
//! and what is there is in it.

use std::collections::BTreeMap;
use std::sync::OnceLock;

use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, SchemaGenerator};
use serde_json::{Map, Value, json};

use super::problem::Problem;
use crate::control::{Request, Response};

/// By which method a path is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    Get,
    Post,
}

/// For the command line on this machine alone: what it answers is a file here.
const LOCAL: &[&str] = &["copy-outbox"];

/// Verb, what it is for, and by which members its answers are known; the last ends an answer in pieces. A verb that is not
/// here is described by the comment of its request, and may answer anything.
const VERBS: &[(&str, &str, &[&str])] = &[
    (
        "status",
        "Is everything well? Volumes, copies, long work, queues, looked at now",
        &["status"],
    ),
    (
        "find",
        "Search the archive; matches as they are found",
        &["matches", "found"],
    ),
    (
        "failures",
        "Associations that failed lately, and what the other side should change",
        &["failures"],
    ),
    (
        "gauges",
        "What /metrics shows of disks, copies, queues and index",
        &["gauges"],
    ),
    (
        "study",
        "Where the copies of a study lie, and when they were last read again",
        &["study"],
    ),
    (
        "stats",
        "How much is in the archive, also by modality, month, station or volume",
        &["progress", "stats"],
    ),
    (
        "index-rebuild",
        "Make the index anew from the ledgers, while everything goes on",
        &["done"],
    ),
    (
        "index-fill",
        "Look for the values of extra keys in the images now",
        &["done"],
    ),
    (
        "volume",
        "Disks: add, retire, eject, return, drain, rename, relocate, replace, forget",
        &["said", "replace"],
    ),
    (
        "work",
        "Long work on the disks: equalize, adopt, drill, scrub, retention; look at it, cancel it",
        &["work"],
    ),
    (
        "mirror",
        "Second copies: how far they are; pause, resume, now",
        &["mirror"],
    ),
    (
        "restoring",
        "How far a replaced disk is restored",
        &["replace"],
    ),
    (
        "report",
        "Reports of dead disks, pulls and what left by rule: all names, or one",
        &["reports", "report"],
    ),
    (
        "checked",
        "What reading all copies again found",
        &["checked"],
    ),
    (
        "amend",
        "Correct a patient or study: shown first, then made; taken back",
        &["amend"],
    ),
    (
        "changes",
        "Corrections: who made which, when and why",
        &["changes"],
    ),
    (
        "removal",
        "To the trash and back; protection from it",
        &["removal"],
    ),
    (
        "conflicts",
        "What needs a decision, and deciding it",
        &["conflicts"],
    ),
    (
        "doctor",
        "What of the machine stands in the way; the disks are measured",
        &["doctor"],
    ),
    (
        "forward",
        "What goes to peers by itself, and sending by hand",
        &["forward"],
    ),
    ("setup", "Peers and rules of forwarding", &["setup"]),
    ("pull", "Studies of another archive to here", &["pull"]),
    (
        "journal",
        "What came and went, the newest first",
        &["transfers", "journal"],
    ),
    (
        "audit",
        "Who did what, the newest first",
        &["audited", "audit"],
    ),
    (
        "seen",
        "The last associations, and what came in each of the last hours",
        &["seen"],
    ),
    (
        "failures",
        "Associations that failed, the newest first, each kind once",
        &["failures"],
    ),
    (
        "gauges",
        "What is true at this moment, for monitoring",
        &["gauges"],
    ),
    (
        "probe",
        "What a configured peer can do, tried out",
        &["probe"],
    ),
    (
        "probe-by-image",
        "The same, and an image of nobody is sent to it and asked back",
        &["probe"],
    ),
    (
        "commit",
        "Ask a peer to keep instances, and wait for its answer",
        &["commit"],
    ),
];

/// Answered in pieces, a line each.
const IN_PIECES: [&str; 4] = ["find", "stats", "journal", "audit"];

const ABOUT: &str = "What `kura` on the command line asks of a running server, asked over HTTP: a path for each verb, the \
body and the answer are the same JSON. Where nobody has a password the API listens to its own machine only and everything is \
allowed; otherwise a token is sent with each request (`kura admin token add`). Times are RFC 3339, sizes bytes, attributes \
`group << 16 | element`. Every change is noted (`kura audit`).";

struct Described {
    ways: BTreeMap<String, Way>,
    text: String,
}

fn described() -> &'static Described {
    static DESCRIBED: OnceLock<Described> = OnceLock::new();
    DESCRIBED.get_or_init(describe)
}

/// As JSON.
pub fn text() -> &'static str {
    &described().text
}

/// `None`: there is no such verb.
pub fn way(verb: &str) -> Option<Way> {
    described().ways.get(verb).copied()
}

/// Nothing but its name belongs to the request.
pub fn takes_nothing(request: &Request) -> bool {
    let value = serde_json::to_value(request).unwrap_or_default();
    value.as_object().is_some_and(|object| object.len() == 1)
}

/// Schemas of a type and of all that is in it.
fn schemas<T: JsonSchema>(settings: SchemaSettings) -> Map<String, Value> {
    let settings = settings.with(|settings| {
        settings.definitions_path = "/components/schemas".into();
        settings.meta_schema = None;
    });
    let mut generator: SchemaGenerator = settings.into_generator();
    generator.subschema_for::<T>();
    generator.take_definitions(true)
}

/// Asked and answered, a type of the same name may be described in two ways.
fn renamed(schemas: Map<String, Value>) -> Map<String, Value> {
    let text = Value::Object(schemas).to_string();
    let text = text.replace("\"#/components/schemas/", "\"#/components/schemas/Asked.");
    match serde_json::from_str(&text) {
        Ok(Value::Object(schemas)) => schemas,
        _ => Map::new(),
    }
}

fn variants(schemas: &Map<String, Value>, name: &str) -> Vec<Value> {
    let all = &schemas.get(name).unwrap_or(&Value::Null)["oneOf"];
    all.as_array().cloned().unwrap_or_default()
}

/// The verb of a request, and the schema of the rest of it. `None`: there is no rest.
fn body(variant: &Value) -> Option<(String, Option<Value>)> {
    let verb = variant["properties"]["verb"]["const"].as_str()?.to_owned();
    if verb == "stats" {
        return Some((verb, Some(stats_body())));
    }
    let mut body = variant.as_object()?.clone();
    body.remove("description");
    if let Some(Value::Object(properties)) = body.get_mut("properties") {
        properties.remove("verb");
    }
    if let Some(Value::Array(required)) = body.get_mut("required") {
        required.retain(|name| name != "verb");
    }
    let is_empty = |value: Option<&Value>| {
        value.is_none_or(|value| match value {
            Value::Object(members) => members.is_empty(),
            Value::Array(items) => items.is_empty(),
            _ => false,
        })
    };
    for name in ["properties", "required"] {
        if is_empty(body.get(name)) {
            body.remove(name);
        }
    }
    // What is not named there is refused.
    let has_properties = body.contains_key("properties");
    if let Some(Value::Array(each)) = body.get_mut("oneOf") {
        for one in each.iter_mut().filter_map(Value::as_object_mut) {
            one.insert("additionalProperties".to_owned(), false.into());
        }
    } else if has_properties {
        body.insert("additionalProperties".to_owned(), false.into());
    } else {
        return Some((verb, None));
    }
    Some((verb, Some(Value::Object(body))))
}

fn stats_body() -> Value {
    json!({
        "type": "object",
        "properties": {
            "by": {
                "description": "What groups are made by; all: one group",
                "type": "string",
                "enum": ["all", "modality", "month", "station", "volume"],
            },
        },
        "additionalProperties": false,
    })
}

/// Those of the answers that have these members.
fn answers(all: &[Value], members: &[&str]) -> Value {
    let mut found: Vec<Value> = Vec::new();
    for member in members {
        let has = |answer: &&Value| answer["properties"].get(member).is_some();
        match all.iter().find(has) {
            Some(answer) => found.push(answer.clone()),
            None => found.push(json!({ "type": "string", "const": member })),
        }
    }
    match found.len() {
        1 => found.remove(0),
        _ => json!({ "oneOf": found }),
    }
}

fn problems(way: Way) -> Map<String, Value> {
    let mut codes = vec![
        ("401", "Who asks is not known"),
        (
            "403",
            "Who asks may not, or a page of another server made the browser ask",
        ),
        ("405", "The path takes another method"),
        (
            "421",
            "The server was asked by a name that it does not know",
        ),
        (
            "422",
            "It was understood, and cannot be done as things are; nothing was changed",
        ),
        ("500", "A fault in the server"),
        ("503", "Users and tokens cannot be read"),
    ];
    if way == Way::Post {
        codes.extend([
            ("400", "The body is not what is expected"),
            ("408", "The body did not come in time"),
            ("413", "The body is longer than 4 MiB"),
            ("415", "The body is not declared as JSON"),
            ("429", "As many long answers as there may be are being read"),
        ]);
    }
    let schema = json!({ "$ref": "#/components/schemas/Problem" });
    let codes = codes.into_iter().map(|(code, description)| {
        let content = json!({ "application/problem+json": { "schema": schema } });
        let response = json!({ "description": description, "content": content });
        (code.to_owned(), response)
    });
    codes.collect()
}

fn describe() -> Described {
    let asked = schemas::<Request>(SchemaSettings::draft2020_12().for_deserialize());
    let mut asked = renamed(asked);
    let mut said = schemas::<Response>(SchemaSettings::draft2020_12().for_serialize());
    let requests = variants(&asked, "Request");
    let responses = variants(&said, "Response");
    let mut paths = Map::new();
    let mut ways = BTreeMap::new();
    for variant in &requests {
        let Some((verb, body)) = body(variant) else {
            continue;
        };
        if LOCAL.contains(&&*verb) {
            continue;
        }
        let request: Option<Request> = serde_json::from_value(json!({ "verb": verb })).ok();
        let way = match request.is_some_and(|request| !request.is_a_change()) {
            true => Way::Get,
            false => Way::Post,
        };
        let known = VERBS.iter().find(|(name, ..)| *name == verb);
        let comment = variant["description"].as_str().unwrap_or(&verb);
        let summary = known.map_or(comment, |(_, summary, _)| summary);
        let answers = match known {
            Some((.., members)) => answers(&responses, members),
            None => json!({ "$ref": "#/components/schemas/Response" }),
        };
        let (kind, description) = match IN_PIECES.contains(&&*verb) {
            true => (
                "application/x-ndjson",
                "A line of JSON for each piece; the last line is the end, and without it the answer is not whole",
            ),
            false => ("application/json", "The answer"),
        };
        let mut all = problems(way);
        let content = Value::Object(Map::from_iter([(
            kind.to_owned(),
            json!({ "schema": answers }),
        )]));
        all.insert(
            "200".to_owned(),
            json!({ "description": description, "content": content }),
        );
        let mut operation = json!({
            "operationId": verb,
            "summary": summary,
            "responses": all,
        });
        if let Some(body) = body.filter(|_| way == Way::Post) {
            operation["requestBody"] = json!({
                "required": verb != "stats",
                "content": { "application/json": { "schema": body } },
            });
        } else if way == Way::Post {
            operation["requestBody"] = json!({
                "content": { "application/json": {
                    "schema": { "type": "object", "additionalProperties": false },
                } },
            });
        }
        let method = if way == Way::Get { "get" } else { "post" };
        let item = Map::from_iter([(method.to_owned(), operation)]);
        paths.insert(format!("/api/v1/{verb}"), Value::Object(item));
        ways.insert(verb, way);
    }
    paths.insert("/api/v1/openapi.json".to_owned(), itself());
    asked.remove("Request");
    said.extend(
        asked
            .into_iter()
            .map(|(name, schema)| (format!("Asked.{name}"), schema)),
    );
    said.extend(schemas::<Problem>(
        SchemaSettings::draft2020_12().for_serialize(),
    ));
    let text = json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Kura",
            "version": env!("CARGO_PKG_VERSION"),
            "description": ABOUT,
        },
        "servers": [{ "url": "/" }],
        "security": [{ "token": [] }, { "session": [] }, {}],
        "paths": paths,
        "components": {
            "schemas": said,
            "securitySchemes": {
                "token": {
                    "type": "http",
                    "scheme": "bearer",
                    "description": "kura admin token add NAME",
                },
                "session": {
                    "type": "apiKey",
                    "in": "cookie",
                    "name": super::sign_in::COOKIE,
                    "description": "Of a browser that has signed in",
                },
            },
        },
    });
    Described {
        ways,
        text: text.to_string(),
    }
}

fn itself() -> Value {
    let mut all = problems(Way::Get);
    all.remove("422");
    let content = json!({ "application/json": { "schema": { "type": "object" } } });
    all.insert(
        "200".to_owned(),
        json!({ "description": "This description", "content": content }),
    );
    let operation = json!({
        "operationId": "openapi",
        "summary": "This description, OpenAPI 3.1",
        "responses": all,
    });
    json!({ "get": operation })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Method: the names of all requests, as the type has them, against the paths; each has a sentence, a body where it
    /// needs one, and an answer.
    #[test]
    fn every_request_has_a_path_that_is_described() {
        let asked = schemas::<Request>(SchemaSettings::draft2020_12().for_deserialize());
        let requests = variants(&asked, "Request");
        assert!(requests.len() > 20);
        let all: Value = serde_json::from_str(text()).unwrap();
        for request in &requests {
            let verb = request["properties"]["verb"]["const"].as_str().unwrap();
            let path = &all["paths"][format!("/api/v1/{verb}")];
            if LOCAL.contains(&verb) {
                assert!(path.is_null(), "{verb}");
                continue;
            }
            let operation = [&path["get"], &path["post"]]
                .into_iter()
                .find(|o| !o.is_null());
            let operation = operation.unwrap_or_else(|| panic!("{verb} has no path"));
            let summary = operation["summary"].as_str().unwrap();
            assert!(summary.len() > 10, "{verb} is not described: {summary:?}");
            assert!(operation["responses"]["200"]["content"].is_object());
        }
        assert!(!text().contains("/$defs/"));
        // Every reference leads somewhere.
        for part in text().split("\"#/components/schemas/").skip(1) {
            let name = part.split('"').next().unwrap();
            assert!(all["components"]["schemas"][name].is_object(), "{name}");
        }
    }

    /// Method: members that the table promises are those of answers.
    #[test]
    fn the_answers_of_the_table_are_answers() {
        let said = schemas::<Response>(SchemaSettings::draft2020_12().for_serialize());
        let responses = variants(&said, "Response");
        for member in VERBS.iter().flat_map(|(.., members)| *members) {
            let known = responses.iter().any(|answer| {
                let plain = answer["enum"].as_array().or(answer["const"].as_array());
                answer["properties"].get(member).is_some()
                    || answer["const"] == *member
                    || plain.is_some_and(|all| all.contains(&json!(member)))
            });
            assert!(known, "{member}");
        }
    }
}
