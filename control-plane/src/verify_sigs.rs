//! `metanode verify-sigs`: signatures from outside through the verifier that the node uses.
//!
//! In: on stdin one JSON object a line, `{"key","digest","der"}` in hex; the signature is DER as blocks hold it, without a hash
//! type, read laxly; a high s counts as its low twin. Out: for each line, in order, `{"valid","decided_by"}`. A line that is no
//! such object ends the run with exit code 2.

use clap::Args;
use serde_json::{Value, json};
use sigbatch::{Backend, Check, DecidedBy, SigVerdict, Signature, Verifier, disagreements};
use std::io::{BufRead, Write};
use std::process::ExitCode;

/// Rows verified together.
const BATCH_ROWS: usize = 1_024;

/// Verifies signatures from stdin, one JSON object a line
#[derive(Args, Debug)]
pub struct VerifySigsArgs {
    /// avx512ifma, libsecp256k1 or model (default: what the node would choose)
    #[arg(long)]
    pub backend: Option<String>,
}

/// One line of input.
struct Row {
    key: Vec<u8>,
    digest: [u8; 32],
    der: Vec<u8>,
}

/// Runs it.
pub fn main(args: &VerifySigsArgs) -> ExitCode {
    match run(args) {
        Ok(()) if disagreements() == 0 => ExitCode::SUCCESS,
        Ok(()) => ExitCode::FAILURE,
        Err(text) => {
            eprintln!("verify-sigs: {text}");
            ExitCode::from(2)
        }
    }
}

fn verifier(name: Option<&str>) -> Result<Verifier, String> {
    let Some(name) = name else { return Ok(Verifier::new()) };
    let names = Backend::ALL.map(Backend::name).join(", ");
    let backend = Backend::ALL
        .into_iter()
        .find(|backend| backend.name() == name)
        .ok_or_else(|| format!("got backend `{name}`, expected one of {names}"))?;
    Verifier::with_backend(backend).ok_or_else(|| {
        format!(
            "backend `{name}` does not run on this machine; try libsecp256k1, which always does"
        )
    })
}

fn run(args: &VerifySigsArgs) -> Result<(), String> {
    let mut verifier = verifier(args.backend.as_deref())?;
    let mut out = std::io::BufWriter::new(std::io::stdout().lock());
    let mut rows = Vec::with_capacity(BATCH_ROWS);
    for (i, line) in std::io::stdin().lock().lines().enumerate() {
        let line = line.map_err(|error| format!("reading line {}: {error}", i + 1))?;
        rows.push(row(&line).ok_or_else(|| {
            format!("line {}: expected an object with key, digest (32 bytes) and der in hex", i + 1)
        })?);
        if rows.len() == BATCH_ROWS {
            answer(&mut verifier, &rows, &mut out)?;
            rows.clear();
        }
    }
    answer(&mut verifier, &rows, &mut out)?;
    out.flush().map_err(|error| format!("writing answers: {error}"))
}

fn row(line: &str) -> Option<Row> {
    let object: Value = serde_json::from_str(line).ok()?;
    let bytes = |name: &str| hex::decode(object.get(name)?.as_str()?).ok();
    Some(Row { key: bytes("key")?, digest: bytes("digest")?.try_into().ok()?, der: bytes("der")? })
}

fn answer(verifier: &mut Verifier, rows: &[Row], out: &mut impl Write) -> Result<(), String> {
    let mut verdicts = vec![SigVerdict::default(); rows.len()];
    let mut deciders = vec![DecidedBy::default(); rows.len()];
    let check = |i: usize| {
        let row: &Row = &rows[i];
        let signature = Signature::Der(&row.der);
        Check { public_key: &row.key, digest: &row.digest, signature }
    };
    verifier.verify_each_telling(check, &mut verdicts, |i, by| deciders[i] = by);
    for (verdict, by) in verdicts.iter().zip(deciders) {
        let object = json!({ "valid": verdict.is_valid(), "decided_by": by.name() });
        writeln!(out, "{object}").map_err(|error| format!("writing answers: {error}"))?;
    }
    Ok(())
}
