//! What a call fails with: a code clients branch on and a message they show.
//!
//! Codes and messages are SV Node's where it has one (`rpc/protocol.h`; messages were read from a running 1.0.13).

/// A failed call.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message} (code {code})")]
pub struct RpcError {
    /// One of the codes below.
    pub code: i32,
    /// What a person reads.
    pub message: String,
}

/// Codes. Source: SV Node `rpc/protocol.h`.
pub mod code {
    /// Wrong number of arguments, wrong type where the method itself looked, anything without a code of its own.
    pub const MISC: i32 = -1;
    /// A parameter has another type than the method takes.
    pub const TYPE: i32 = -3;
    /// An address, block or transaction that is not there.
    pub const NOT_FOUND: i32 = -5;
    /// A parameter is missing, doubled or out of range.
    pub const PARAMETER: i32 = -8;
    /// A database or a file failed.
    pub const DATABASE: i32 = -20;
    /// Bytes are not what they should be.
    pub const DESERIALIZATION: i32 = -22;
    /// Processing a transaction or block failed.
    pub const VERIFY: i32 = -25;
    /// A transaction or block was rejected by the rules.
    pub const VERIFY_REJECTED: i32 = -26;
    /// The transaction is known.
    pub const ALREADY_IN_CHAIN: i32 = -27;
    /// The node starts, stops or is too busy.
    pub const IN_WARMUP: i32 = -28;
    /// The node is not where the call needs it: stopping.
    pub const NOT_CONNECTED: i32 = -9;
    /// Too much is being done already; nothing was done. HTTP 503.
    pub const OVERLOADED: i32 = -32_005;
    /// The request is JSON but no call.
    pub const INVALID_REQUEST: i32 = -32600;
    /// No such method.
    pub const METHOD_NOT_FOUND: i32 = -32601;
    /// Parameters of a known method that make no sense.
    pub const INVALID_PARAMS: i32 = -32602;
    /// The node itself is at fault.
    pub const INTERNAL: i32 = -32603;
    /// The request is no JSON.
    pub const PARSE: i32 = -32700;

    /// Every code and when it is given.
    pub const ALL: &[(i32, &str)] = &[
        (
            MISC,
            "a wrong number of parameters (the message is the method's help), a value the method stumbled over, anything without a code of its own",
        ),
        (TYPE, "a parameter of another type than the method takes"),
        (NOT_FOUND, "no such address, block or transaction"),
        (PARAMETER, "a parameter that is missing, doubled or out of range"),
        (NOT_CONNECTED, "the node is stopping"),
        (DATABASE, "a file could not be read"),
        (DESERIALIZATION, "a transaction, block or solution that cannot be read"),
        (VERIFY, "inputs of a transaction are missing"),
        (
            VERIFY_REJECTED,
            "a transaction was rejected: number and reason of the P2P message `reject`",
        ),
        (ALREADY_IN_CHAIN, "the transaction is in the pool already"),
        (IN_WARMUP, "the node is not ready, or no longer"),
        (OVERLOADED, "too much is being done already; nothing was done"),
        (INVALID_REQUEST, "the request is JSON but no call"),
        (METHOD_NOT_FOUND, "no such method"),
        (INVALID_PARAMS, "a parameter that is none of the words it may be"),
        (INTERNAL, "the node is at fault"),
        (PARSE, "the request is no JSON, or nested too deep"),
    ];
}

impl RpcError {
    /// An error with a code and a message.
    pub fn new(code: i32, message: impl Into<String>) -> Self {
        Self { code, message: message.into() }
    }

    /// Code -1.
    pub fn misc(message: impl Into<String>) -> Self {
        Self::new(code::MISC, message)
    }

    /// Code -8.
    pub fn parameter(message: impl Into<String>) -> Self {
        Self::new(code::PARAMETER, message)
    }

    /// Code -5.
    pub fn not_found(message: impl Into<String>) -> Self {
        Self::new(code::NOT_FOUND, message)
    }

    /// Code -22.
    pub fn decode(message: impl Into<String>) -> Self {
        Self::new(code::DESERIALIZATION, message)
    }

    /// The status of an HTTP answer with this error alone. Source: SV Node `httprpc.cpp` `JSONErrorReply`.
    pub fn http_status(&self) -> u16 {
        match self.code {
            code::INVALID_REQUEST => 400,
            code::METHOD_NOT_FOUND => 404,
            code::OVERLOADED => 503,
            _ => 500,
        }
    }
}

impl From<std::io::Error> for RpcError {
    fn from(error: std::io::Error) -> Self {
        Self::new(code::DATABASE, format!("reading a block: {error}"))
    }
}
