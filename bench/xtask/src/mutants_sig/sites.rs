//! Where a source file can be changed by one token so that a carry, a mask, a constant or a range check is wrong.
//!
//! In: the text of a file. Out: the same text in which every function body stands once for each change of it, chosen at run
//! time by a number; and the list of changes. So one build holds all mutants, and trying one costs no compiler. Works on text
//! as rustfmt writes it; what a change makes of the text may not compile, and then is left out by the caller.

use std::ops::Range;

/// One change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Site {
    /// Which function.
    pub function: String,
    /// What is replaced, from the start of the file.
    pub at: Range<usize>,
    /// By what.
    pub with: String,
    /// The line it stands in, and what is done to it, for readers.
    pub line: usize,
    /// `old -> new`, with the number of its like in the function.
    pub what: String,
}

/// A function body, braces included.
#[derive(Clone, Debug)]
struct Body {
    function: String,
    at: Range<usize>,
}

/// Constants whose value is a number or a list of so many words; a use of them is bent in one bit.
const CONSTANTS: [(&str, usize); 26] = [
    ("FOLD_256", 0),
    ("FOLD_260", 0),
    ("M48", 0),
    ("M52", 0),
    ("P2", 5),
    ("P4", 5),
    ("P", 4),
    ("BETA", 5),
    ("KEY_WINDOW", 0),
    ("KEY_WINDOWS", 0),
    ("FIXED_WINDOW", 0),
    ("TOP", 0),
    ("MULTIPLES", 0),
    ("LANES", 0),
    ("WORTH", 0),
    ("N", 4),
    ("P_MINUS_N", 4),
    ("N_INVERSE", 0),
    ("ONE", 4),
    ("INTO", 4),
    ("A1", 3),
    ("MINUS_B1", 3),
    ("A2", 3),
    ("ROUND_1", 4),
    ("ROUND_2", 4),
    ("HASH", 32),
];

/// Functions that only hint: what they do changes no result, so no mutant of them is one. Lines with `.pin()` are the same.
const HINTS: [&str; 4] = ["pin", "hold", "prefetch", "ask_for_rows"];

/// Text for text, where it stands alone.
const SWAPS: [(&str, &str); 45] = [
    (".add(", ".sub("),
    (".sub(", ".add("),
    (".and(", ".or("),
    (".or(", ".and("),
    (".xor(", ".and("),
    (".mul_low(", ".mul_high("),
    (".mul_high(", ".mul_low("),
    (".cut_low(", ".cut_high("),
    (".cut_low(", ".mul_low("),
    (".cut_high(", ".cut_low("),
    (".cut_high(", ".mul_high("),
    (".shr::<", ".scale::<"),
    (".shr_by(", ".shl_by("),
    (".shl_by(", ".shr_by("),
    (" << ", " >> "),
    (" >> ", " << "),
    (" | ", " & "),
    (" & ", " | "),
    (" ^ ", " | "),
    (" + ", " - "),
    (" - ", " + "),
    (" * ", " + "),
    (" % ", " / "),
    (" / ", " % "),
    (" < ", " <= "),
    (" <= ", " < "),
    (" > ", " >= "),
    (" >= ", " > "),
    (" == ", " != "),
    (" != ", " == "),
    (" && ", " || "),
    (" || ", " && "),
    (" += ", " -= "),
    (" -= ", " += "),
    (" |= ", " &= "),
    (" &= ", " |= "),
    (" !", " "),
    ("(!", "("),
    ("true", "false"),
    ("false", "true"),
    ("wrapping_add(", "wrapping_sub("),
    ("wrapping_mul(", "wrapping_add("),
    (", c)", ", 0)"),
    (", carry)", ", 0)"),
    ("_mm512_madd52lo_epu64", "_mm512_madd52hi_epu64"),
];

/// The end of what opens at `open`, one past the closing bracket.
fn closing(text: &[u8], open: usize) -> usize {
    let (left, right) = match text[open] {
        b'{' => (b'{', b'}'),
        b'(' => (b'(', b')'),
        _ => (b'[', b']'),
    };
    let mut depth = 0usize;
    for (i, byte) in text.iter().enumerate().skip(open) {
        depth += usize::from(*byte == left);
        depth -= usize::from(*byte == right);
        if depth == 0 {
            return i + 1;
        }
    }
    text.len()
}

/// The same text with comments and strings blanked, so that offsets stay.
fn code(text: &str) -> Vec<u8> {
    let mut out = text.as_bytes().to_vec();
    let mut i = 0;
    while i < out.len() {
        if out[i..].starts_with(b"//") {
            while i < out.len() && out[i] != b'\n' {
                out[i] = b' ';
                i += 1;
            }
        } else if out[i] == b'"' {
            i += 1;
            while i < out.len() && out[i] != b'"' {
                i += 1 + usize::from(out[i] == b'\\');
            }
            i += 1;
        } else {
            i += 1;
        }
    }
    let mut quoted = false;
    for byte in &mut out {
        if *byte == b'"' {
            quoted = !quoted;
        } else if quoted && *byte != b'\n' {
            *byte = b' ';
        }
    }
    // So that what follows the last token can be looked at.
    out.extend([b'\n'; 32]);
    out
}

fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_'
}

fn name_at(code: &[u8], from: usize) -> String {
    code[from..].iter().take_while(|byte| is_word(**byte)).map(|byte| *byte as char).collect()
}

/// Bodies of functions and of `step!`s; tests and macros are left alone.
fn bodies(code: &[u8]) -> Vec<Body> {
    let mut out = Vec::new();
    let mut i = 0;
    while i < code.len() {
        let rest = &code[i..];
        if rest.starts_with(b"#[cfg(test)]") {
            break;
        }
        let open =
            |from: usize| code[from..].iter().position(|byte| *byte == b'{').map(|at| from + at);
        if rest.starts_with(b"macro_rules!") {
            i = open(i).map_or(code.len(), |open| closing(code, open));
        } else if rest.starts_with(b"step! {") {
            let name = code[i + 7..].iter().position(u8::is_ascii_uppercase);
            let name = i + 7 + name.unwrap_or(0);
            let fields = open(name).map_or(code.len(), |open| closing(code, open));
            let Some(body) = open(fields) else { break };
            let end = closing(code, body);
            out.push(Body { function: name_at(code, name), at: body..end });
            i = end;
        } else if rest.starts_with(b"fn ") && (i == 0 || !is_word(code[i - 1])) {
            let function = name_at(code, i + 3);
            let constant = code[..i].ends_with(b"const ");
            let mut at = i;
            while at < code.len() && !matches!(code[at], b'{' | b';') {
                at = if matches!(code[at], b'(' | b'[') { closing(code, at) } else { at + 1 };
            }
            if at >= code.len() || code[at] == b';' {
                i = at;
                continue;
            }
            let end = closing(code, at);
            if !constant {
                out.push(Body { function, at: at..end });
            }
            i = end;
        } else {
            i += 1;
        }
    }
    out
}

/// Parts of a body that are left alone: what the compiler works out, asserts, hints to the compiler.
fn untouched(code: &[u8], body: &Range<usize>) -> Vec<Range<usize>> {
    const FROM_TO: [(&[u8], u8); 5] = [
        (b"assert!(", b'('),
        (b"assert_eq!(", b'('),
        (b"const {", b'{'),
        (b"use ", b';'),
        (b"const ", b';'),
    ];
    let mut out = Vec::new();
    let mut at = body.start;
    for line in code[body.clone()].split(|byte| *byte == b'\n') {
        if line.ends_with(b".pin();") {
            out.push(at..at + line.len());
        }
        at += line.len() + 1;
    }
    for i in body.clone() {
        for (start, kind) in FROM_TO {
            if code[i..].starts_with(start) && !is_word(code[i - 1]) {
                let end = if kind == b';' {
                    i + code[i..].iter().position(|byte| *byte == b';').unwrap_or(0)
                } else {
                    closing(code, i + start.len() - 1)
                };
                out.push(i..end);
            }
        }
    }
    out
}

/// Numbers of a body: place, value, and whether one less is tried (ends of ranges) in place of one more.
fn numbers(code: &[u8], body: &Range<usize>) -> Vec<(Range<usize>, String)> {
    let mut out = Vec::new();
    let mut i = body.start;
    while i < body.end {
        let before = code[i - 1];
        if !code[i].is_ascii_digit() || is_word(before) {
            i += 1;
            continue;
        }
        let end = i + code[i..].iter().take_while(|byte| is_word(**byte)).count();
        let text = String::from_utf8_lossy(&code[i..end]).into_owned();
        let field = before == b'.' && code[i - 2] != b'.';
        let length = code[..i].ends_with(b"; ") && code[end] == b']';
        let shift =
            [&b".shr::<"[..], b".shl::<", b".scale::<"].iter().any(|s| code[..i].ends_with(s));
        let generic =
            !shift && before == b'<' || code[end] == b'>' && code[end + 1] != b' ' && !shift;
        let (digits, radix) = match text.strip_prefix("0x") {
            Some(digits) => (digits, 16),
            None => (&text[..], 10),
        };
        let suffix = ["u64", "usize", "u128", "u32", "u8", "i64"]
            .into_iter()
            .find(|suffix| radix == 10 && digits.ends_with(suffix))
            .unwrap_or("");
        let plain = digits.strip_suffix(suffix).unwrap_or(digits).replace('_', "");
        if let Ok(value) = u128::from_str_radix(&plain, radix)
            && !field
            && !length
        {
            if generic {
                // The factor of a reduction: another that it knows.
                let other = match value {
                    1 => 2,
                    2 => 3,
                    3 => 4,
                    4 => 8,
                    _ => 4,
                };
                out.push((i..end, format!("{other}")));
            } else if before == b'.' || code[..i].ends_with(b"..=") {
                out.push((i..end, format!("{}{suffix}", value.saturating_sub(1))));
            } else {
                out.push((i..end, format!("{}{suffix}", value + 1)));
                if shift {
                    out.push((i..end, format!("{}", value - 1)));
                }
            }
        }
        i = end;
    }
    out
}

/// All sites of a file.
pub fn sites(text: &str, bends_n: bool) -> Vec<Site> {
    let code = code(text);
    let mut out = Vec::new();
    for body in bodies(&code).into_iter().filter(|body| !HINTS.contains(&&*body.function)) {
        let skip = untouched(&code, &body.at);
        let mut found: Vec<(Range<usize>, String)> = Vec::new();
        for (old, new) in SWAPS {
            for i in body.at.clone() {
                let word = |at: usize| is_word(code[at]);
                let alone = !is_word(old.as_bytes()[0]) || !word(i - 1);
                let unequal = old.ends_with('!') && code[i + old.len()] == b'=';
                if code[i..].starts_with(old.as_bytes()) && alone && !unequal {
                    found.push((i..i + old.len(), new.to_owned()));
                }
            }
        }
        found.extend(numbers(&code, &body.at));
        for (name, words) in CONSTANTS {
            let known = bends_n || !matches!(name, "N" | "P");
            for i in body.at.clone() {
                let end = i + name.len();
                let path = code[..i].ends_with(b"scalar::");
                let start = i - if path { "scalar::".len() } else { 0 };
                let whole = code[i..].starts_with(name.as_bytes())
                    && !is_word(code[i - 1])
                    && !is_word(code[end])
                    && (known || path || name == "P" && code[end] == b')');
                // Not a parameter, a length, a pattern or the name of another path.
                let other = matches!(code[i - 1], b':') && !path
                    || code[..i].ends_with(b"; ")
                    || code[..i].ends_with(b", ") && matches!(code[end], b'>')
                    || code[end] == b':';
                if whole && !other {
                    // Of a list that is read at one place, that place.
                    let index =
                        (code[end] == b'[').then(|| name_at(&code, end + 1).parse().ok()).flatten();
                    if let Some(word) = index {
                        let name = String::from_utf8_lossy(&code[start..end]).into_owned();
                        let bent: usize = word;
                        found.push((start..end, format!("crate::mutant::bend({name}, {bent})")));
                        continue;
                    }
                    for word in
                        [0, words / 2, words.saturating_sub(1)].iter().take(words.clamp(1, 3))
                    {
                        let bent = format!(
                            "crate::mutant::bend({}, {word})",
                            String::from_utf8_lossy(&code[start..end])
                        );
                        found.push((start..end, bent));
                    }
                }
            }
        }
        for line in lines_of(&code, &body.at) {
            let statement = String::from_utf8_lossy(&code[line.clone()]).into_owned();
            let acts =
                statement.contains(" = ") || statement.contains("= ") || statement.contains('(');
            let plain = !["let ", "return", "const ", "use ", "}", "."]
                .iter()
                .any(|start| statement.starts_with(start));
            let balanced = closing_balanced(statement.as_bytes());
            if statement.ends_with(';')
                && acts
                && plain
                && balanced
                && !statement.contains(".pin()")
            {
                found.push((line, String::new()));
            }
        }
        found.retain(|(at, _)| {
            !skip.iter().any(|skip| skip.start <= at.start && at.start < skip.end)
        });
        found.sort_by_key(|(at, with)| (at.start, at.end, with.clone()));
        found.dedup();
        for (at, with) in found {
            let old = text[at.clone()].trim().to_owned();
            let line = text[..at.start].lines().count();
            let new = with.trim().replace("crate::mutant::", "");
            let what = format!("`{old}` -> `{new}`");
            let like = out
                .iter()
                .filter(|site: &&Site| {
                    site.function == body.function && site.what.starts_with(&what)
                })
                .count();
            let what = if like == 0 { what } else { format!("{what} ({})", like + 1) };
            out.push(Site { function: body.function.clone(), at, with, line, what });
        }
    }
    out
}

fn closing_balanced(statement: &[u8]) -> bool {
    let count = |bracket: u8| statement.iter().map(|byte| u32::from(*byte == bracket)).sum::<u32>();
    [(b'(', b')'), (b'[', b']'), (b'{', b'}')].iter().all(|(l, r)| count(*l) == count(*r))
}

/// Lines of a body that are whole statements: the line before ended one.
fn lines_of(code: &[u8], body: &Range<usize>) -> Vec<Range<usize>> {
    let mut out = Vec::new();
    let mut at = body.start;
    let mut fresh = false;
    for line in code[body.clone()].split(|byte| *byte == b'\n') {
        let indent = line.iter().take_while(|byte| **byte == b' ').count();
        let end = line.iter().rposition(|byte| *byte != b' ').map_or(0, |last| last + 1);
        if fresh && indent < end {
            out.push(at + indent..at + end);
        }
        if end > 0 {
            fresh = matches!(line[end - 1], b';' | b'{' | b'}');
        }
        at += line.len() + 1;
    }
    out
}

/// The file with every body standing once for each of its sites; `numbers[i]` chooses `sites[i]`.
pub fn woven(text: &str, sites: &[Site], numbers: &[Option<usize>]) -> String {
    let code = code(text);
    let mut out = String::with_capacity(text.len() * 8);
    let mut done = 0;
    for body in bodies(&code) {
        let chosen: Vec<(&Site, usize)> = sites
            .iter()
            .zip(numbers)
            .filter(|(site, _)| body.at.start <= site.at.start && site.at.end <= body.at.end)
            .filter_map(|(site, number)| Some((site, (*number)?)))
            .collect();
        if chosen.is_empty() {
            continue;
        }
        out.push_str(&text[done..body.at.start]);
        out.push_str("{ match crate::mutant::current() {\n");
        for (site, number) in chosen {
            out.push_str(&format!("{number} => "));
            // One line a body, so that a compiler's message leads to its mutant.
            let changed =
                [&text[body.at.start..site.at.start], &site.with, &text[site.at.end..body.at.end]];
            out.push_str(&on_one_line(&changed.concat()));
            out.push('\n');
        }
        out.push_str("_ => ");
        out.push_str(&text[body.at.clone()]);
        out.push_str("\n} }");
        done = body.at.end;
    }
    out.push_str(&text[done..]);
    out
}

fn on_one_line(body: &str) -> String {
    body.lines()
        .map(|line| line.split("//").next().unwrap_or("").trim())
        .collect::<Vec<_>>()
        .join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "//! x\nfn f(a: [u8; 2]) -> u64 {\n    // 5 < 6\n    let t = a.shr::<52>();\n    t[1] = t[0].add(M52);\n    t & 7\n}\n\n#[cfg(test)]\nmod tests { fn g() { 1 + 1 } }\n";

    #[test]
    fn carries_masks_constants_and_statements_are_found_and_tests_are_not() {
        let whats: Vec<String> = sites(TEXT, false).into_iter().map(|site| site.what).collect();
        for expected in [
            "`.shr::<` -> `.scale::<`",
            "`52` -> `53`",
            "`52` -> `51`",
            "`.add(` -> `.sub(`",
            "`M52` -> `bend(M52, 0)`",
            "`&` -> `|`",
            "`7` -> `8`",
            "`t[1] = t[0].add(M52);` -> ``",
        ] {
            assert!(whats.iter().any(|what| what == expected), "{expected} is not in {whats:#?}");
        }
        assert!(!whats.iter().any(|what| what.contains('<') && what.contains('=')), "{whats:?}");
        assert!(!whats.iter().any(|what| what.contains('+')), "{whats:?}");
    }

    #[test]
    fn a_woven_file_holds_each_body_once_a_site_and_as_it_was() {
        let sites = sites(TEXT, false);
        let numbers: Vec<Option<usize>> = (0..sites.len()).map(|i| Some(i + 2)).collect();
        let text = woven(TEXT, &sites, &numbers);
        assert_eq!(text.matches(" => {").count(), sites.len() + 1);
        assert!(
            text.contains("let t = a.shr::<53>();")
                && text.ends_with("mod tests { fn g() { 1 + 1 } }\n")
        );
        let none = vec![None; sites.len()];
        assert_eq!(woven(TEXT, &sites, &none), TEXT);
    }
}
