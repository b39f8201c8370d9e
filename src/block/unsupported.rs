//! Values that Tempo's columns cannot hold, as the protobuf-JSON text that it stores instead.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::otlp::wire::{self, Field, Reader};
use crate::segment::attr::{self, Any};

/// The text of a value.
pub fn to_json(value: Any<'_>) -> String {
    tree(value).to_string()
}

fn tree(value: Any<'_>) -> Value {
    match value {
        Any::Empty => json!({}),
        Any::Str(text) => json!({ "stringValue": text }),
        Any::Bool(flag) => json!({ "boolValue": flag }),
        Any::Int(number) => json!({ "intValue": number.to_string() }),
        Any::Float(number) => json!({ "doubleValue": float(number) }),
        Any::Bytes(raw) => json!({ "bytesValue": STANDARD.encode(raw) }),
        Any::Array(items) => {
            let values: Vec<Value> = attr::elements(items).map(tree).collect();
            json!({ "arrayValue": { "values": values } })
        }
        Any::Map(pairs) => {
            let mut values = Vec::new();
            let mut reader = Reader::new(pairs);
            while let Ok(Some((field, content))) = reader.next() {
                if let (1, Field::Bytes(pair)) = (field, content) {
                    let (key, value) = attr::key_value(pair);
                    values.push(json!({ "key": key, "value": tree(value) }));
                }
            }
            json!({ "kvlistValue": { "values": values } })
        }
    }
}

fn float(number: f64) -> Value {
    match serde_json::Number::from_f64(number) {
        Some(number) => Value::Number(number),
        None if number.is_nan() => "NaN".into(),
        None if number > 0.0 => "Infinity".into(),
        None => "-Infinity".into(),
    }
}

/// Appends the `AnyValue` that a text stands for; one that is not understood becomes a string.
pub fn put_any(out: &mut Vec<u8>, text: &str) {
    match serde_json::from_str::<Value>(text) {
        Ok(tree) => put_tree(out, &tree),
        Err(_) => attr::put_scalar(out, Any::Str(text)),
    }
}

fn put_tree(out: &mut Vec<u8>, tree: &Value) {
    let Some((member, value)) = tree.as_object().and_then(|object| object.iter().next()) else {
        return;
    };
    let text = value.as_str().unwrap_or_default();
    let items = || value.get("values").and_then(Value::as_array).into_iter().flatten();
    match member.as_str() {
        "stringValue" => attr::put_scalar(out, Any::Str(text)),
        "boolValue" => attr::put_scalar(out, Any::Bool(value.as_bool().unwrap_or_default())),
        "intValue" => {
            let number = value.as_i64().or_else(|| text.parse().ok()).unwrap_or_default();
            attr::put_scalar(out, Any::Int(number));
        }
        "doubleValue" => {
            let number = value.as_f64().or_else(|| text.parse().ok()).unwrap_or(f64::NAN);
            attr::put_scalar(out, Any::Float(number));
        }
        "bytesValue" => {
            attr::put_scalar(out, Any::Bytes(&STANDARD.decode(text).unwrap_or_default()))
        }
        "arrayValue" => wire::put_message(out, 5, |out| {
            items().for_each(|item| wire::put_message(out, 1, |out| put_tree(out, item)));
        }),
        "kvlistValue" => wire::put_message(out, 6, |out| {
            for pair in items() {
                let key = pair.get("key").and_then(Value::as_str).unwrap_or_default();
                let value = pair.get("value").unwrap_or(&Value::Null);
                attr::put_key_value(out, 1, key, |out| put_tree(out, value));
            }
        }),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str) {
        let mut any = Vec::new();
        put_any(&mut any, text);
        assert_eq!(to_json(attr::any_value(&any)), text);
    }

    #[test]
    fn texts_come_back() {
        check("{}");
        check(r#"{"bytesValue":"AQI="}"#);
        check(r#"{"arrayValue":{"values":[{"stringValue":"a"},{"intValue":"1"}]}}"#);
        check(r#"{"kvlistValue":{"values":[{"key":"k","value":{"doubleValue":"NaN"}}]}}"#);
        check(r#"{"arrayValue":{"values":[{"arrayValue":{"values":[]}},{"boolValue":false}]}}"#);
    }

    #[test]
    fn other_text_becomes_a_string() {
        let mut any = Vec::new();
        put_any(&mut any, "not json");
        assert_eq!(attr::any_value(&any), Any::Str("not json"));
    }
}
