//! Parameters of a call: positional or named, counted and typed before a method sees them.
//!
//! In: the JSON of `params` and a method's row in the table. Out: one value a parameter, or the error SV Node gives. Methods
//! that check their types up front say `Expected type …` (-3), the others stumble over the value they use (-1): each
//! parameter's row says which. `null` stands for a parameter that was left out, as named calls need it.
//! Source: SV Node `rpc/server.cpp` `transformNamedArguments`, `RPCTypeCheck`; `univalue_get.cpp`.

use super::error::{RpcError, code};
use super::json::read_hex;
use super::table::{Kind, Method, Param};
use consensus::hash::{BlockHash, TxId};
use serde_json::{Map, Value};

/// The values of one call, in the order of the method's parameters.
#[derive(Debug)]
pub struct Args {
    method: &'static Method,
    values: Vec<Value>,
}

impl Args {
    /// Reads, counts and checks the parameters of a call.
    pub fn parse(method: &'static Method, params: &[u8]) -> Result<Self, RpcError> {
        let params: Value = serde_json::from_slice(params)
            .map_err(|error| RpcError::new(code::PARSE, format!("Parse error: {error}")))?;
        let values = match params {
            Value::Object(named) => place(method, named)?,
            Value::Array(values) => values,
            _ => Vec::new(),
        };
        let required = method.params.iter().filter(|param| param.required).count();
        if values.len() < required || values.len() > method.params.len() {
            return Err(RpcError::misc(method.help()));
        }
        for (value, param) in values.iter().zip(method.params) {
            if !value.is_null() || param.required {
                check(value, param)?;
            }
        }
        Ok(Self { method, values })
    }

    /// The value of parameter `at`, if it was given.
    pub fn value(&self, at: usize) -> Option<&Value> {
        debug_assert!(at < self.method.params.len(), "a parameter the table does not have");
        self.values.get(at).filter(|value| !value.is_null())
    }

    /// A string; empty if it was left out.
    pub fn text(&self, at: usize) -> &str {
        self.value(at).and_then(Value::as_str).unwrap_or_default()
    }

    /// A boolean, if it was given.
    pub fn bool(&self, at: usize) -> Option<bool> {
        self.value(at).and_then(Value::as_bool)
    }

    /// An integer of 32 bits, if it was given. Source: SV Node `UniValue::get_int`.
    pub fn int(&self, at: usize) -> Result<Option<i32>, RpcError> {
        self.value(at).map(int32).transpose()
    }

    /// An integer of 64 bits, if it was given.
    pub fn long(&self, at: usize) -> Result<Option<i64>, RpcError> {
        self.value(at).map(int64).transpose()
    }

    /// The elements of an array; none if it was left out.
    pub fn array(&self, at: usize) -> &[Value] {
        self.value(at).and_then(Value::as_array).map_or(&[], Vec::as_slice)
    }

    /// The members of an object, if it was given.
    pub fn object(&self, at: usize) -> Option<&Map<String, Value>> {
        self.value(at).and_then(Value::as_object)
    }

    /// A txid that must be one: 64 digits. Source: SV Node `rpc/server.cpp` `ParseHashV`.
    pub fn txid(&self, at: usize, name: &str) -> Result<TxId, RpcError> {
        read_txid(self.text(at), name)
    }

    /// A block's hash; what is none names no block.
    pub fn block_hash(&self, at: usize) -> Option<BlockHash> {
        self.text(at).parse().ok()
    }
}

/// An integer of 32 bits.
pub fn int32(value: &Value) -> Result<i32, RpcError> {
    i32::try_from(int64(value)?).map_err(|_| RpcError::misc("JSON integer out of range"))
}

/// An integer of 64 bits.
pub fn int64(value: &Value) -> Result<i64, RpcError> {
    match value {
        Value::Number(number) => {
            number.as_i64().ok_or_else(|| RpcError::misc("JSON integer out of range"))
        }
        _ => Err(wrong_value(Kind::Int)),
    }
}

/// A txid of 64 digits; `name` is what the error calls it.
pub fn read_txid(text: &str, name: &str) -> Result<TxId, RpcError> {
    read_hex(text).ok_or_else(|| not_hex(text, name))?;
    text.parse().map_err(|_| {
        RpcError::parameter(format!("{name} must be of length 64 (not {})", text.len()))
    })
}

/// Bytes in hex; `name` is what the error calls them. Source: SV Node `rpc/server.cpp` `ParseHexV`.
pub fn bytes_of_hex(text: &str, name: &str) -> Result<Vec<u8>, RpcError> {
    read_hex(text).ok_or_else(|| not_hex(text, name))
}

/// Longest piece of a parameter that an error repeats.
const REPEATED_CHARS_MAX: usize = 200;

fn not_hex(text: &str, name: &str) -> RpcError {
    let shown: String = text.chars().take(REPEATED_CHARS_MAX).collect();
    RpcError::parameter(format!(
        "{name} must be hexadecimal string (not '{shown}') and length of it must be divisible by 2"
    ))
}

/// Puts named values into their places; gaps become `null`.
fn place(method: &'static Method, named: Map<String, Value>) -> Result<Vec<Value>, RpcError> {
    let mut values = Vec::new();
    for (name, value) in named {
        let Some(at) = method.params.iter().position(|param| param.name == name) else {
            let shown: String = name.chars().take(REPEATED_CHARS_MAX).collect();
            return Err(RpcError::parameter(format!("Unknown named parameter {shown}")));
        };
        if values.len() <= at {
            values.resize(at + 1, Value::Null);
        }
        values[at] = value;
    }
    Ok(values)
}

/// What the reference calls a JSON type.
pub fn type_name(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "bool",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

fn check(value: &Value, param: &Param) -> Result<(), RpcError> {
    let fits = match param.kind {
        Kind::Text => value.is_string(),
        Kind::Int => value.is_number(),
        Kind::Bool => value.is_boolean(),
        Kind::Array => value.is_array(),
        Kind::Object => value.is_object(),
        Kind::Any => true,
    };
    if fits {
        return Ok(());
    }
    Err(if param.checked_first { wrong_type(param.kind, value) } else { wrong_value(param.kind) })
}

/// The error of a method that checks types up front.
pub fn wrong_type(kind: Kind, value: &Value) -> RpcError {
    let expected = match kind {
        Kind::Text => "string",
        Kind::Int => "number",
        Kind::Bool => "bool",
        Kind::Array => "array",
        Kind::Object | Kind::Any => "object",
    };
    RpcError::new(code::TYPE, format!("Expected type {expected}, got {}", type_name(value)))
}

/// The error of a method that stumbles over a value.
pub fn wrong_value(kind: Kind) -> RpcError {
    let expected = match kind {
        Kind::Text => "a string",
        Kind::Int => "an integer",
        Kind::Bool => "a boolean",
        Kind::Array => "an array",
        Kind::Object | Kind::Any => "an object",
    };
    RpcError::misc(format!("JSON value is not {expected} as expected"))
}

#[cfg(test)]
mod tests {
    use super::super::table::method;
    use super::*;

    fn parse(name: &str, params: &str) -> Result<Args, (i32, String)> {
        Args::parse(method(name).unwrap(), params.as_bytes()).map_err(|e| (e.code, e.message))
    }

    #[test]
    fn names_and_places_mean_the_same() {
        let args = parse("getblock", r#"{"verbosity":2,"blockhash":"ab"}"#).unwrap();
        assert_eq!((args.text(0), args.int(1)), ("ab", Ok(Some(2))));
        let args = parse("gettxout", r#"{"include_mempool":false,"txid":"ab","n":7}"#).unwrap();
        assert_eq!((args.text(0), args.int(1), args.bool(2)), ("ab", Ok(Some(7)), Some(false)));
        let unknown = parse("getblockhash", r#"{"height":0,"x":1}"#).unwrap_err();
        assert_eq!(unknown, (-8, "Unknown named parameter x".to_owned()));
    }

    #[test]
    fn a_wrong_count_answers_with_the_help() {
        for params in ["[]", "[1,2]"] {
            let (code, message) = parse("getblockhash", params).unwrap_err();
            assert_eq!(code, -1);
            assert!(message.starts_with("getblockhash height\n"), "{message}");
        }
    }

    #[test]
    fn wrong_types_fail_as_the_reference_fails() {
        // Seen from SV Node 1.0.13.
        let rows = [
            ("getblockhash", r#"["a"]"#, -1, "JSON value is not an integer as expected"),
            ("getblock", "[null]", -1, "JSON value is not a string as expected"),
            ("getblock", "[1]", -1, "JSON value is not a string as expected"),
            ("sendrawtransaction", "[5]", -3, "Expected type string, got number"),
            ("sendrawtransaction", r#"["00",1]"#, -3, "Expected type bool, got number"),
            ("decoderawtransaction", "[5]", -3, "Expected type string, got number"),
            ("setmocktime", r#"["x"]"#, -3, "Expected type number, got string"),
            ("verifyscript", "[5]", -1, "JSON value is not an array as expected"),
            ("getblocktemplate", "[5]", -1, "JSON value is not an object as expected"),
            ("getrawmempool", "[1]", -1, "JSON value is not a boolean as expected"),
            ("gettxoutproof", r#"["x"]"#, -1, "JSON value is not an array as expected"),
        ];
        for (name, params, code, message) in rows {
            assert_eq!(
                parse(name, params).unwrap_err(),
                (code, message.to_owned()),
                "{name} {params}"
            );
        }
        for number in ["1.5", "99999999999", "-2147483649", "1e3"] {
            let args = parse("getblockhash", &format!("[{number}]")).unwrap();
            assert_eq!(args.int(0), Err(RpcError::misc("JSON integer out of range")), "{number}");
        }
    }

    #[test]
    fn txids_are_refused_with_their_length_or_their_letters() {
        let said = |text: &str| read_txid(text, "parameter 1").unwrap_err().message;
        assert_eq!(said(&"00".repeat(31)), "parameter 1 must be of length 64 (not 62)");
        assert!(said("zz").contains("(not 'zz')"));
        assert!(said(&"z".repeat(100_000)).len() < 400);
        assert!(read_txid(&"ab".repeat(32), "x").is_ok());
    }
}
