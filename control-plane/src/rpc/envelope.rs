//! The envelope of JSON-RPC: which calls a body asks for, and how an answer is wrapped.
//!
//! In: the bytes of an HTTP body. Out: one call or a batch, each with the bytes of its `id` and of its parameters, uncopied.
//! The three versions of the protocol are mixed as bitcoind mixes them: `jsonrpc` is ignored, `id` may be anything and
//! comes back as it was written, a name that stands twice counts as it stands first. What is too deep, too long or too many
//! is refused before anything is built from it. Source: SV Node `rpc/server.cpp` `JSONRPCRequest::parse`, `httprpc.cpp`.

use super::error::{RpcError, code};
use super::json::{DEPTH_MAX, Json, depth};
use bytes::Bytes;
use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;
use std::borrow::Cow;

/// Longest `id`, in bytes of JSON.
pub const ID_BYTES_MAX: usize = 1_024;
/// Longest name of a method that is looked up.
const METHOD_BYTES_MAX: usize = 64;

/// One call, not yet looked at.
#[derive(Clone, Debug)]
pub struct Call {
    /// JSON of the `id`, to be echoed.
    pub id: Bytes,
    /// The method's name, or why there is none.
    pub method: Result<String, RpcError>,
    /// JSON of the parameters: an array or an object.
    pub params: Bytes,
}

/// What a body asks for.
#[derive(Debug)]
pub enum Request {
    /// One call; the answer is one object.
    Single(Call),
    /// Calls in order; the answer is an array.
    Batch(Vec<Call>),
}

const NULL: Bytes = Bytes::from_static(b"null");
const NO_PARAMS: Bytes = Bytes::from_static(b"[]");

/// Reads a body. A batch has at most `batch_max` calls.
pub fn parse(body: &Bytes, batch_max: usize) -> Result<Request, RpcError> {
    let unreadable = || RpcError::new(code::PARSE, "Parse error");
    if depth(body, DEPTH_MAX) > DEPTH_MAX {
        return Err(RpcError::new(
            code::PARSE,
            format!("Parse error: nested deeper than {DEPTH_MAX} levels"),
        ));
    }
    match body.iter().find(|byte| !byte.is_ascii_whitespace()) {
        Some(b'{') => {
            let fields: Fields<'_> = serde_json::from_slice(body).map_err(|_| unreadable())?;
            Ok(Request::Single(fields.call(body)?))
        }
        Some(b'[') => {
            let calls: Vec<&RawValue> = serde_json::from_slice(body).map_err(|_| unreadable())?;
            if calls.len() > batch_max {
                let got = calls.len();
                return Err(RpcError::new(
                    code::INVALID_REQUEST,
                    format!(
                        "a batch of {got} calls; at most {batch_max} are taken at once: send several"
                    ),
                ));
            }
            calls.iter().map(|raw| element(raw, body)).collect::<Result<_, _>>().map(Request::Batch)
        }
        _ => {
            // Any JSON but an object or an array, or no JSON at all.
            serde_json::from_slice::<IgnoredAny>(body).map_err(|_| unreadable())?;
            Err(RpcError::new(code::PARSE, "Top-level object parse error"))
        }
    }
}

/// One element of a batch; what is no object fails alone.
fn element(raw: &RawValue, body: &Bytes) -> Result<Call, RpcError> {
    match serde_json::from_str::<Fields<'_>>(raw.get()) {
        Ok(fields) => fields.call(body),
        Err(_) => Ok(Call {
            id: NULL,
            method: Err(RpcError::new(code::INVALID_REQUEST, "Invalid Request object")),
            params: NO_PARAMS,
        }),
    }
}

/// The fields of an object that matter; of equal names the first.
#[derive(Default)]
struct Fields<'a> {
    id: Option<&'a RawValue>,
    method: Option<&'a RawValue>,
    params: Option<&'a RawValue>,
}

impl Fields<'_> {
    fn call(&self, body: &Bytes) -> Result<Call, RpcError> {
        let slice = |raw: &RawValue| body.slice_ref(raw.get().as_bytes());
        let id = self.id.map_or(NULL, slice);
        if id.len() > ID_BYTES_MAX {
            return Err(RpcError::new(
                code::INVALID_REQUEST,
                format!("an id of {} bytes; at most {ID_BYTES_MAX} are echoed", id.len()),
            ));
        }
        // It is written back as it came: half a surrogate pair would make an answer that nobody can read. (SV Node: Parse error.)
        if id.iter().any(|byte| matches!(byte, b'\\' | b'e' | b'E'))
            && serde_json::from_slice::<serde_json::Value>(&id).is_err()
        {
            return Err(RpcError::new(code::PARSE, "Parse error"));
        }
        let invalid = |message: &str| Err(RpcError::new(code::INVALID_REQUEST, message));
        let mut method = match self.method.map(RawValue::get) {
            None | Some("null") => invalid("Missing method"),
            Some(text) if text.len() > METHOD_BYTES_MAX && text.starts_with('"') => {
                Err(RpcError::new(code::METHOD_NOT_FOUND, "Method not found"))
            }
            Some(text) => {
                serde_json::from_str(text).or_else(|_| invalid("Method must be a string"))
            }
        };
        let params = match self.params {
            None => NO_PARAMS,
            Some(raw) => match raw.get().as_bytes().first() {
                Some(b'[' | b'{') => slice(raw),
                _ if raw.get() == "null" => NO_PARAMS,
                _ => {
                    method =
                        method.and_then(|_: String| invalid("Params must be an array or object"));
                    NO_PARAMS
                }
            },
        };
        Ok(Call { id, method, params })
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Fields<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reader;
        impl<'de> Visitor<'de> for Reader {
            type Value = Fields<'de>;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a call: an object with a method")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut fields = Fields::default();
                while let Some(key) = map.next_key::<Key<'de>>()? {
                    let field = match key.0.as_ref() {
                        "id" => &mut fields.id,
                        "method" => &mut fields.method,
                        "params" => &mut fields.params,
                        _ => {
                            map.next_value::<IgnoredAny>()?;
                            continue;
                        }
                    };
                    let value = map.next_value::<&'de RawValue>()?;
                    field.get_or_insert(value);
                }
                Ok(fields)
            }
        }
        deserializer.deserialize_map(Reader)
    }
}

/// A key, borrowed unless it is written with escapes.
#[derive(serde::Deserialize)]
struct Key<'a>(#[serde(borrow)] Cow<'a, str>);

/// Appends the answer to one call: `{"result":…,"error":…,"id":…}`.
pub fn write_answer(out: &mut Vec<u8>, id: &[u8], answer: &Result<Json, RpcError>) {
    out.extend_from_slice(b"{\"result\":");
    match answer {
        Ok(json) => {
            out.extend_from_slice(json.as_bytes());
            out.extend_from_slice(b",\"error\":null");
        }
        Err(error) => {
            let error = Json::of(|w| {
                w.object(|w| {
                    w.key("code").int(error.code);
                    w.key("message").text(&error.message);
                });
            });
            out.extend_from_slice(b"null,\"error\":");
            out.extend_from_slice(error.as_bytes());
        }
    }
    out.extend_from_slice(b",\"id\":");
    out.extend_from_slice(id);
    out.push(b'}');
}

#[cfg(test)]
mod tests {
    use super::*;

    fn single(body: &str) -> Call {
        match parse(&Bytes::copy_from_slice(body.as_bytes()), 100) {
            Ok(Request::Single(call)) => call,
            other => panic!("{body}: {other:?}"),
        }
    }

    fn refused(body: &str) -> (i32, String) {
        let error = parse(&Bytes::copy_from_slice(body.as_bytes()), 100).expect_err(body);
        (error.code, error.message)
    }

    #[test]
    fn all_versions_of_the_protocol_are_one_call() {
        for body in [
            r#"{"method":"uptime"}"#,
            r#"{"jsonrpc":"1.0","id":null,"method":"uptime","params":[]}"#,
            r#" {"jsonrpc":"2.0","method":"upt\u0069me","params":null,"x":[1,{"method":"no"}]} "#,
            r#"{"meth\u006fd":"uptime","method":"stop"}"#,
        ] {
            let call = single(body);
            assert_eq!(call.method.as_deref(), Ok("uptime"), "{body}");
            assert_eq!((&call.id[..], &call.params[..]), (&b"null"[..], &b"[]"[..]));
        }
        let call = single(r#"{"id": {"a":1.50} ,"method":"x","params":{"height":0}}"#);
        assert_eq!(&call.id[..], br#"{"a":1.50}"#);
        assert_eq!(&call.params[..], br#"{"height":0}"#);
    }

    #[test]
    fn what_is_no_call_is_named_as_the_reference_names_it() {
        let parse = (-32700, "Parse error".to_owned());
        for body in
            ["", "{", "[", "x", r#"{"method":"uptime"} x"#, r#"{"method":"uptime","params":[]"#]
        {
            assert_eq!(refused(body), parse, "{body}");
        }
        assert_eq!(refused("\u{feff}{}"), parse);
        for body in ["5", "\"x\"", "null"] {
            assert_eq!(refused(body), (-32700, "Top-level object parse error".to_owned()));
        }
        let method = |body| single(body).method.expect_err(body).message;
        assert_eq!(method(r#"{"id":1}"#), "Missing method");
        assert_eq!(method(r#"{"method":5}"#), "Method must be a string");
        assert_eq!(method(r#"{"method":"a","params":5}"#), "Params must be an array or object");
        assert_eq!(method(r#"{"params":5}"#), "Missing method");
    }

    #[test]
    fn a_batch_keeps_its_order_and_only_the_broken_elements_fail() {
        let body = Bytes::from_static(br#"[{"id":1,"method":"a"},5,[],{"id":2}]"#);
        let Ok(Request::Batch(calls)) = super::parse(&body, 100) else { panic!("no batch") };
        let said: Vec<_> =
            calls.iter().map(|c| (c.id.clone(), c.method.clone().map_err(|e| e.message))).collect();
        let error = |text: &str| Err(text.to_owned());
        assert_eq!(said[0], (Bytes::from_static(b"1"), Ok("a".to_owned())));
        assert_eq!(said[1], (NULL, error("Invalid Request object")));
        assert_eq!(said[2], (NULL, error("Invalid Request object")));
        assert_eq!(said[3], (Bytes::from_static(b"2"), error("Missing method")));
        assert!(
            matches!(super::parse(&Bytes::from_static(b"[]"), 100), Ok(Request::Batch(c)) if c.is_empty())
        );
    }

    #[test]
    fn an_id_that_cannot_be_read_is_not_written_back() {
        for id in [r#""\ud83dhexe00""#, r#"["a","\udc00"]"#, "1e999"] {
            let body = format!(r#"{{"id":{id},"method":"uptime"}}"#);
            assert_eq!(refused(&body).0, -32700, "{id}");
            assert_eq!(refused(&format!("[{body}]")).0, -32700, "{id}");
        }
        let body = r#"{"id":"\ud83d\ude00","method":"uptime"}"#;
        assert_eq!(single(body).id, Bytes::from_static(br#""\ud83d\ude00""#));
    }

    #[test]
    fn deep_long_and_many_are_refused_before_anything_is_built() {
        let deep = "[".repeat(100_000);
        assert!(refused(&deep).1.contains("deeper than 64"));
        let deep = format!("{{\"id\":{}{},\"method\":\"a\"}}", "[".repeat(70), "]".repeat(70));
        assert_eq!(refused(&deep).0, -32700);
        let long = format!("{{\"id\":\"{}\",\"method\":\"a\"}}", "x".repeat(2_000));
        assert_eq!(refused(&long).0, -32600);
        let many = format!("[{}1]", "1,".repeat(100));
        assert!(refused(&many).1.starts_with("a batch of 101 calls"));
        let name = format!("{{\"method\":\"{}\"}}", "x".repeat(2_000));
        assert_eq!(single(&name).method.unwrap_err().code, -32601);
    }

    #[test]
    fn answers_are_written_byte_for_byte_as_the_reference_writes_them() {
        let mut out = Vec::new();
        write_answer(&mut out, b"{\"a\":1.50}", &Ok(Json::of(|w| w.int(0))));
        assert_eq!(out, br#"{"result":0,"error":null,"id":{"a":1.50}}"#);
        out.clear();
        write_answer(&mut out, b"1", &Err(RpcError::new(-32601, "Method not found")));
        assert_eq!(
            out,
            br#"{"result":null,"error":{"code":-32601,"message":"Method not found"},"id":1}"#
        );
    }
}
