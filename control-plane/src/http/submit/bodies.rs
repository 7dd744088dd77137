//! From the body of a request to transactions, in every form clients send them.
//!
//! Bytes: one transaction, or many back to back, raw or extended. Text: hex, one a line. JSON: ARC's `{"rawTx": hex}` or an
//! array of these. What comes out borrows the body where it can. Nothing here judges a transaction; it only finds where each
//! one ends, and says which and where if that cannot be found.

use super::counts::SubmitHttpCount;
use bytes::Bytes;
use consensus::tx::{Limits, TxLayout, parse_prefix};
use consensus::wire::ParseError;
use serde::Deserialize;

/// Transactions of one request, unless `submit.txs_max` says otherwise. Source: Teranode `services/propagation/Server.go` `maxTransactionsPerRequest`.
pub const TXS_MAX: usize = 1_024;

/// First bytes of BEEF (BRC-62) and of its second version (BRC-96), and of atomic BEEF (BRC-95).
const BEEF: [[u8; 4]; 3] = [[1, 0, 0xbe, 0xef], [2, 0, 0xbe, 0xef], [1, 1, 1, 1]];

/// Why a body is not transactions.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BadBody {
    /// Nothing in it.
    #[error("the body is empty; send a transaction, raw or in the extended format")]
    Empty,
    /// The bytes of one do not parse.
    #[error("transaction {index} of the body, at byte {at}, is malformed: {error}")]
    Malformed {
        /// Which, from 0.
        index: usize,
        /// Where it starts.
        at: usize,
        /// What is wrong, at an offset from there.
        error: ParseError,
    },
    /// Too many.
    #[error("the body has more than {txs_max} transactions; send it in parts")]
    TooMany {
        /// The most.
        txs_max: usize,
    },
    /// No hex.
    #[error("line {line} of the body is not hex: {what}")]
    NotHex {
        /// From 1; for JSON the place in the array, from 1.
        line: usize,
        /// What is wrong.
        what: String,
    },
    /// No JSON of the right shape.
    #[error("the body is not the JSON that is expected, {expected}: {what}")]
    NotJson {
        /// The shape.
        expected: &'static str,
        /// What the parser said.
        what: String,
    },
    /// BEEF.
    #[error(
        "transaction {index} is in BEEF, which this node does not read; send it raw or in the extended format"
    )]
    Beef {
        /// Which, from 0.
        index: usize,
    },
}

impl BadBody {
    /// Its counter.
    pub fn count(&self) -> SubmitHttpCount {
        match self {
            Self::Empty => SubmitHttpCount::Empty,
            Self::Malformed { .. } => SubmitHttpCount::Malformed,
            Self::TooMany { .. } => SubmitHttpCount::TooMany,
            Self::NotHex { .. } => SubmitHttpCount::NotHex,
            Self::NotJson { .. } => SubmitHttpCount::NotJson,
            Self::Beef { .. } => SubmitHttpCount::Beef,
        }
    }
}

/// ARC's request for one transaction.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawTx<'a> {
    #[serde(borrow)]
    raw_tx: std::borrow::Cow<'a, str>,
}

/// One transaction in bytes. Only its end is not looked for: what follows it is the validator's to refuse.
pub fn one(body: &Bytes) -> Result<Bytes, BadBody> {
    if body.is_empty() {
        return Err(BadBody::Empty);
    }
    refuse_beef(0, body)?;
    Ok(body.clone())
}

/// Transactions back to back.
pub fn concatenated(body: &Bytes, txs_max: usize) -> Result<Vec<Bytes>, BadBody> {
    if body.is_empty() {
        return Err(BadBody::Empty);
    }
    let mut txs = Vec::new();
    let mut layout = TxLayout::new();
    let mut at = 0;
    while at < body.len() {
        if txs.len() == txs_max {
            return Err(BadBody::TooMany { txs_max });
        }
        let rest = &body[at..];
        let malformed = |error| match is_beef(rest) {
            true => BadBody::Beef { index: txs.len() },
            false => BadBody::Malformed { index: txs.len(), at, error },
        };
        let view = parse_prefix(rest, &mut layout, Limits::CONSENSUS).map_err(malformed)?;
        let end = at + view.bytes().len();
        txs.push(body.slice(at..end));
        at = end;
    }
    Ok(txs)
}

/// Hex, one transaction a line; blank lines do not count.
pub fn hex_lines(body: &[u8], txs_max: usize) -> Result<Vec<Bytes>, BadBody> {
    let mut txs = Vec::new();
    for (line, text) in body.split(|b| *b == b'\n').enumerate() {
        let text = text.trim_ascii();
        if text.is_empty() {
            continue;
        }
        if txs.len() == txs_max {
            return Err(BadBody::TooMany { txs_max });
        }
        txs.push(hex(line + 1, txs.len(), text)?);
    }
    if txs.is_empty() { Err(BadBody::Empty) } else { Ok(txs) }
}

/// `{"rawTx": "..."}`.
pub fn json_one(body: &[u8]) -> Result<Bytes, BadBody> {
    const EXPECTED: &str = r#"{"rawTx": "hex"}"#;
    if body.is_empty() {
        return Err(BadBody::Empty);
    }
    let request: RawTx<'_> = serde_json::from_slice(body)
        .map_err(|e| BadBody::NotJson { expected: EXPECTED, what: e.to_string() })?;
    json_hex(0, &request)
}

/// `[{"rawTx": "..."}, ...]`.
pub fn json_many(body: &[u8], txs_max: usize) -> Result<Vec<Bytes>, BadBody> {
    const EXPECTED: &str = r#"[{"rawTx": "hex"}, ...]"#;
    if body.is_empty() {
        return Err(BadBody::Empty);
    }
    let requests: Vec<RawTx<'_>> = serde_json::from_slice(body)
        .map_err(|e| BadBody::NotJson { expected: EXPECTED, what: e.to_string() })?;
    if requests.is_empty() {
        return Err(BadBody::Empty);
    }
    if requests.len() > txs_max {
        return Err(BadBody::TooMany { txs_max });
    }
    requests.iter().enumerate().map(|(i, request)| json_hex(i, request)).collect()
}

fn json_hex(index: usize, request: &RawTx<'_>) -> Result<Bytes, BadBody> {
    let text = request.raw_tx.trim();
    if text.is_empty() {
        return Err(BadBody::Empty);
    }
    hex(index + 1, index, text.as_bytes())
}

fn hex(line: usize, index: usize, text: &[u8]) -> Result<Bytes, BadBody> {
    let tx = hex::decode(text).map_err(|e| BadBody::NotHex { line, what: e.to_string() })?;
    refuse_beef(index, &tx)?;
    Ok(tx.into())
}

fn is_beef(bytes: &[u8]) -> bool {
    BEEF.iter().any(|head| bytes.starts_with(head))
}

/// A transaction may have a version that looks like BEEF; then it parses.
fn refuse_beef(index: usize, tx: &[u8]) -> Result<(), BadBody> {
    let parses = |tx| parse_prefix(tx, &mut TxLayout::new(), Limits::CONSENSUS).is_ok();
    if is_beef(tx) && !parses(tx) { Err(BadBody::Beef { index }) } else { Ok(()) }
}

/// Reads any bytes in every way, and what was read once more in the other ways: what fuzzing drives.
///
/// # Panics
/// If a transaction is lost or made up, or two ways of writing the same transactions are read differently.
pub fn examine(body: &Bytes) {
    for json in
        [json_one(body).map(|tx| vec![tx]), json_many(body, TXS_MAX), hex_lines(body, TXS_MAX)]
    {
        let told = json.map(|txs| txs.len()).map_err(|bad| bad.to_string().len());
        assert!(told.map_or_else(|text| text > 0, |txs| (1..=TXS_MAX).contains(&txs)));
    }
    assert!(one(body).is_ok_and(|tx| tx == *body) || body.is_empty() || is_beef(body));
    let Ok(txs) = concatenated(body, TXS_MAX) else { return };
    assert_eq!(txs.concat(), body.to_vec());
    for tx in &txs {
        let mut layout = TxLayout::new();
        // Ten bytes that end with the marker are one thing alone and another with bytes behind them.
        let whole = parse_prefix(tx, &mut layout, Limits::CONSENSUS);
        assert!(whole.is_ok_and(|view| view.bytes().len() == tx.len()));
    }
    let lines: Vec<String> = txs.iter().map(hex::encode).collect();
    assert_eq!(hex_lines(lines.join("\n").as_bytes(), TXS_MAX).as_ref(), Ok(&txs));
    let json: Vec<String> = lines.iter().map(|hex| format!(r#"{{"rawTx":"{hex}"}}"#)).collect();
    assert_eq!(json_many(format!("[{}]", json.join(",")).as_bytes(), TXS_MAX).as_ref(), Ok(&txs));
    assert_eq!(json_one(json[0].as_bytes()).as_ref(), Ok(&txs[0]));
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A transaction of one input and one output with scripts of these lengths.
    fn tx(unlocking: usize, locking: usize, extended: bool) -> Vec<u8> {
        let mut tx = vec![2, 0, 0, 0];
        if extended {
            tx.extend_from_slice(&[0, 0, 0, 0, 0, 0xef]);
        }
        tx.push(1);
        tx.extend_from_slice(&[7; 36]);
        tx.push(unlocking as u8);
        tx.extend(vec![0x51; unlocking]);
        tx.extend_from_slice(&[0xff; 4]);
        if extended {
            tx.extend_from_slice(&[9, 0, 0, 0, 0, 0, 0, 0, 1, 0x51]);
        }
        tx.extend_from_slice(&[1, 5, 0, 0, 0, 0, 0, 0, 0, locking as u8]);
        tx.extend(vec![0x51; locking]);
        tx.extend_from_slice(&[0; 4]);
        tx
    }

    #[test]
    fn both_formats_are_cut_apart_where_they_end() {
        let parts = [tx(3, 1, false), tx(100, 25, true), tx(0, 0, false)];
        let body = Bytes::from(parts.concat());
        let txs = concatenated(&body, TXS_MAX).unwrap();
        assert_eq!(txs.iter().map(|t| t.to_vec()).collect::<Vec<_>>(), parts);
        let lines = parts.iter().map(hex::encode).collect::<Vec<_>>().join("\n");
        assert_eq!(hex_lines(format!("{lines}\r\n\n").as_bytes(), TXS_MAX).unwrap(), txs);
        let json: Vec<_> =
            parts.iter().map(|t| serde_json::json!({ "rawTx": hex::encode(t) })).collect();
        assert_eq!(
            json_many(serde_json::to_string(&json).unwrap().as_bytes(), TXS_MAX).unwrap(),
            txs
        );
        assert_eq!(json_one(json[1].to_string().as_bytes()).unwrap(), txs[1]);
        assert_eq!(one(&body).unwrap(), body);
    }

    #[test]
    fn what_is_wrong_is_said_with_its_place() {
        let good = tx(3, 1, false);
        let mut cut = good.clone();
        cut.extend_from_slice(&good[..20]);
        let error = concatenated(&Bytes::from(cut), TXS_MAX).unwrap_err();
        assert!(matches!(error, BadBody::Malformed { index: 1, at, .. } if at == good.len()));
        let mut loose = good.clone();
        loose[41..42].copy_from_slice(&[0xfd]); // the unlocking script's length in a longer form
        let error = concatenated(&Bytes::from(loose), TXS_MAX).unwrap_err();
        assert_eq!(error.count(), SubmitHttpCount::Malformed);
        let mut trailing = good.clone();
        trailing.push(0);
        let error = concatenated(&Bytes::from(trailing), TXS_MAX).unwrap_err();
        assert!(error.to_string().starts_with("transaction 1 of the body, at byte "), "{error}");
        let huge = [1, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff];
        let error = concatenated(&Bytes::from(huge.to_vec()), TXS_MAX).unwrap_err();
        assert!(matches!(error, BadBody::Malformed { index: 0, at: 0, .. }), "{error}");
        assert_eq!(hex_lines(b"01020", TXS_MAX).unwrap_err().count(), SubmitHttpCount::NotHex);
        assert_eq!(
            hex_lines(b"00\nxy", TXS_MAX).unwrap_err().to_string().split(':').next(),
            Some("line 2 of the body is not hex")
        );
        assert_eq!(hex_lines(b" \n \n", TXS_MAX), Err(BadBody::Empty));
        assert_eq!(concatenated(&Bytes::new(), TXS_MAX), Err(BadBody::Empty));
        assert_eq!(json_one(b"{}").unwrap_err().count(), SubmitHttpCount::NotJson);
        assert_eq!(json_one(b"[]").unwrap_err().count(), SubmitHttpCount::NotJson);
        assert_eq!(json_many(b"[]", TXS_MAX), Err(BadBody::Empty));
        let deep = "[".repeat(100_000);
        assert_eq!(
            json_many(deep.as_bytes(), TXS_MAX).unwrap_err().count(),
            SubmitHttpCount::NotJson
        );
        assert_eq!(json_one(deep.as_bytes()).unwrap_err().count(), SubmitHttpCount::NotJson);
        let beef = hex_lines(b"0100beef01fe636d0c0007", TXS_MAX).unwrap_err();
        assert_eq!(beef, BadBody::Beef { index: 0 });
    }

    #[test]
    fn as_many_fit_as_the_setting_says_and_one_more_does_not() {
        assert_eq!(crate::config::Config::default().submit.txs_max, TXS_MAX);
        let good = tx(0, 1, false);
        for txs_max in [1, 7, TXS_MAX] {
            let many = Err(BadBody::TooMany { txs_max });
            let full = Bytes::from(good.repeat(txs_max));
            assert_eq!(concatenated(&full, txs_max).map(|t| t.len()), Ok(txs_max));
            let over = Bytes::from(good.repeat(txs_max + 1));
            assert_eq!(concatenated(&over, txs_max), many);
            let lines = format!("{}\n", hex::encode(&good)).repeat(txs_max + 1);
            assert_eq!(hex_lines(lines.as_bytes(), txs_max), many);
            let json = format!("[{}]", vec![r#"{"rawTx":"00"}"#; txs_max + 1].join(","));
            assert_eq!(json_many(json.as_bytes(), txs_max), many);
        }
        let told = BadBody::TooMany { txs_max: 7 }.to_string();
        assert_eq!(told, "the body has more than 7 transactions; send it in parts");
    }

    #[test]
    fn any_bytes_are_answered() {
        let mut rng = dataplane::rng::Rng::salted(1, 2);
        let good = tx(3, 1, false);
        for _ in 0..20_000 {
            // Transactions with a few bytes changed, and plain noise.
            let mut body = good.repeat(1 + rng.index(3));
            for _ in 0..rng.index(4) {
                let at = rng.index(body.len());
                body[at] = rng.next_u64() as u8;
            }
            if rng.index(4) == 0 {
                rng.fill(&mut body);
            }
            examine(&Bytes::from(body));
        }
    }

    #[test]
    fn the_corpus_of_the_fuzzer_is_read_without_harm() {
        let corpus = concat!(env!("CARGO_MANIFEST_DIR"), "/fuzz/corpus/http_bodies");
        let mut files = 0;
        for file in std::fs::read_dir(corpus).expect("the corpus is there") {
            let data = std::fs::read(file.expect("a folder that can be read").path());
            let data = Bytes::from(data.expect("a file that can be read"));
            // Cut inputs are tried too: they cost nothing and reach the error paths.
            for end in [data.len(), data.len() / 3, data.len().saturating_sub(1)] {
                examine(&data.slice(..end));
            }
            files += 1;
        }
        assert!(files >= 12, "{files} inputs are too few to be the corpus");
    }
}
