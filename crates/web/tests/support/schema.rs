//! Holds answers against the OpenAPI document. What the document uses of JSON Schema is understood; anything else is told,
//! so that a schema cannot hold by not being looked at.

use serde_json::Value;

use super::Answer;

pub fn document() -> Value {
    serde_json::from_str(include_str!("../../src/openapi.json")).unwrap()
}

/// The template of a path in the document.
fn template(document: &Value, path: &str) -> Option<String> {
    let path = path.split('?').next().unwrap();
    let fits = |template: &&String| {
        let (mine, theirs): (Vec<&str>, Vec<&str>) = (path.split('/').collect(), template.split('/').collect());
        mine.len() == theirs.len()
            && mine.iter().zip(&theirs).all(|(mine, theirs)| theirs.starts_with('{') || mine == theirs)
    };
    document["paths"].as_object().unwrap().keys().find(fits).cloned()
}

/// Panics unless the answer is one that the document describes. What is not ours is not in it.
pub fn fits(method: &str, path: &str, answer: &Answer) {
    let document = document();
    let Some(template) = template(&document, path) else { return };
    let Some(operation) = document["paths"][&template].get(method.to_lowercase()) else {
        assert_eq!(answer.status, 405, "{method} {path} is not in the document");
        return;
    };
    let described = &operation["responses"][answer.status.to_string()];
    assert!(
        described.is_object(),
        "{method} {template} does not say that it answers {}: {}",
        answer.status,
        answer.text
    );
    let kind = answer.headers["content-type"].to_str().unwrap().split(';').next().unwrap().to_owned();
    let content = &described["content"][&kind];
    assert!(content.is_object(), "{method} {template} {} does not say that it is {kind}", answer.status);
    assert!(answer.headers.contains_key("x-request-id"), "{method} {path}");
    if kind.ends_with("json") {
        let mut wrong = Vec::new();
        check(&document, &content["schema"], &answer.json(), "$", &mut wrong);
        assert!(wrong.is_empty(), "{method} {template} {}: {wrong:#?}\n{}", answer.status, answer.text);
    }
}

fn check(document: &Value, schema: &Value, value: &Value, at: &str, wrong: &mut Vec<String>) {
    for (word, said) in schema.as_object().unwrap_or_else(|| panic!("{at}: no schema")) {
        match word.as_str() {
            "$ref" => {
                let pointer = said.as_str().unwrap().strip_prefix('#').unwrap();
                let target = document.pointer(pointer).unwrap_or_else(|| panic!("{said} leads nowhere"));
                check(document, target, value, at, wrong);
            }
            "type" => {
                let kinds: Vec<&str> = match said {
                    Value::Array(several) => several.iter().map(|one| one.as_str().unwrap()).collect(),
                    one => vec![one.as_str().unwrap()],
                };
                if !kinds.iter().any(|kind| is(value, kind)) {
                    wrong.push(format!("{at} should be {kinds:?} and is {value}"));
                }
            }
            "required" => {
                let missing = said.as_array().unwrap().iter().map(|name| name.as_str().unwrap());
                let missing = missing.filter(|name| value.is_object() && value.get(name).is_none());
                wrong.extend(missing.map(|name| format!("{at}.{name} is missing")));
            }
            "properties" => {
                for (name, property) in said.as_object().unwrap() {
                    if let Some(value) = value.get(name) {
                        check(document, property, value, &format!("{at}.{name}"), wrong);
                    }
                }
            }
            "additionalProperties" => {
                let known = schema["properties"].as_object();
                let more = value.as_object().into_iter().flatten().map(|(name, _)| name);
                let more = more.filter(|name| {
                    said == &Value::Bool(false) && !known.is_some_and(|known| known.contains_key(*name))
                });
                wrong.extend(more.map(|name| format!("{at}.{name} is not in the document")));
            }
            "items" => {
                for (number, value) in value.as_array().into_iter().flatten().enumerate() {
                    check(document, said, value, &format!("{at}[{number}]"), wrong);
                }
            }
            "enum" => {
                if !said.as_array().unwrap().contains(value) {
                    wrong.push(format!("{at} is {value}, none of {said}"));
                }
            }
            "anyOf" => {
                let fits = |schema: &Value| {
                    let mut wrong = Vec::new();
                    check(document, schema, value, at, &mut wrong);
                    wrong.is_empty()
                };
                if !said.as_array().unwrap().iter().any(fits) {
                    wrong.push(format!("{at} is none of what it may be: {value}"));
                }
            }
            "format" => {
                if said == "date-time"
                    && value.as_str().is_some_and(|text| text.parse::<lifeboat_model::Timestamp>().is_err())
                {
                    wrong.push(format!("{at} is no instant: {value}"));
                }
            }
            "description" => {}
            other => panic!("{at}: nobody understands {other}"),
        }
    }
}

fn is(value: &Value, kind: &str) -> bool {
    match kind {
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "integer" => value.is_i64() || value.is_u64(),
        "number" => value.is_number(),
        "boolean" => value.is_boolean(),
        "null" => value.is_null(),
        other => panic!("nobody understands {other}"),
    }
}

#[test]
fn a_wrong_answer_is_noticed() {
    let document = document();
    let schema = serde_json::json!({ "$ref": "#/components/schemas/Accepted" });
    let mut wrong = Vec::new();
    check(&document, &schema, &serde_json::json!({ "id": 1, "href": "x", "more": true }), "$", &mut wrong);
    wrong.sort();
    assert_eq!(
        wrong,
        [
            "$.events is missing",
            "$.id should be [\"string\"] and is 1",
            "$.more is not in the document",
            "$.ways is missing"
        ]
    );
}
