//! Rust text with its comments, strings and tests blanked out, so that a search finds code only.
//!
//! In: the text of a file. Out: text of the same shape (same lines, same columns) where what is not code of the product is
//! spaces. Knows line and nested block comments, plain, byte, C and raw strings, characters beside lifetimes, and items
//! under an attribute that mentions `test` or `loom`.

/// Blanks comments and literals.
pub fn code_only(text: &str) -> String {
    let chars: Vec<char> = text.chars().collect();
    let mut out = String::with_capacity(text.len());
    let mut at = 0;
    while at < chars.len() {
        let end = skip(&chars, at);
        if end == at {
            out.push(chars[at]);
            at += 1;
        } else {
            out.extend(chars[at..end].iter().map(|&c| if c == '\n' { '\n' } else { ' ' }));
            at = end;
        }
    }
    out
}

/// Where the comment or literal that starts at `at` ends; `at` when none does.
fn skip(chars: &[char], at: usize) -> usize {
    let next = |offset: usize| chars.get(at + offset).copied().unwrap_or('\0');
    match (chars[at], next(1)) {
        ('/', '/') => {
            chars[at..].iter().position(|&c| c == '\n').map_or(chars.len(), |len| at + len)
        }
        ('/', '*') => block_comment(chars, at),
        ('"', _) => string(chars, at),
        ('r', '"' | '#') if !is_word_before(chars, at) => raw_string(chars, at, at + 1),
        ('b' | 'c', 'r') if !is_word_before(chars, at) && matches!(next(2), '"' | '#') => {
            raw_string(chars, at, at + 2)
        }
        ('\'', '\\') => {
            let close = chars[at + 3..].iter().position(|&c| c == '\'');
            close.map_or(chars.len(), |len| at + 3 + len + 1)
        }
        ('\'', _) if next(2) == '\'' => at + 3,
        _ => at,
    }
}

fn is_word_before(chars: &[char], at: usize) -> bool {
    at > 0 && (chars[at - 1].is_alphanumeric() || chars[at - 1] == '_')
}

fn block_comment(chars: &[char], mut at: usize) -> usize {
    let mut depth = 0;
    while at < chars.len() {
        match (chars[at], chars.get(at + 1)) {
            ('/', Some('*')) => {
                depth += 1;
                at += 2;
            }
            ('*', Some('/')) => {
                depth -= 1;
                at += 2;
                if depth == 0 {
                    return at;
                }
            }
            _ => at += 1,
        }
    }
    at
}

fn string(chars: &[char], mut at: usize) -> usize {
    at += 1;
    while at < chars.len() {
        match chars[at] {
            '\\' => at += 2,
            '"' => return at + 1,
            _ => at += 1,
        }
    }
    chars.len()
}

/// `from` is where the hashes start; a raw identifier (`r#type`) is no string.
fn raw_string(chars: &[char], at: usize, from: usize) -> usize {
    let hashes = chars[from..].iter().take_while(|&&c| c == '#').count();
    if chars.get(from + hashes) != Some(&'"') {
        return at;
    }
    let mut end = from + hashes + 1;
    while end < chars.len() {
        let closes = chars[end] == '"'
            && chars[end + 1..].iter().take(hashes).filter(|&&c| c == '#').count() == hashes;
        if closes {
            return end + 1 + hashes;
        }
        end += 1;
    }
    chars.len()
}

/// Blanks items under `#[test]`, `#[cfg(test)]`, `#[cfg(loom)]` and their like. Takes what [`code_only`] gives.
pub fn product_only(code: &str) -> String {
    let mut chars: Vec<char> = code.chars().collect();
    let mut at = 0;
    while at + 1 < chars.len() {
        if chars[at] != '#' || chars[at + 1] != '[' {
            at += 1;
            continue;
        }
        let close = matching(&chars, at + 1, '[', ']');
        let attribute: String = chars[at..close].iter().collect();
        if !is_for_tests(&attribute) {
            at = close;
            continue;
        }
        let end = item_end(&chars, close);
        for c in &mut chars[at..end] {
            if *c != '\n' {
                *c = ' ';
            }
        }
        at = end;
    }
    chars.into_iter().collect()
}

/// Names of modules that stand in files of their own and are declared for tests only. Takes what [`code_only`] gives.
pub fn test_modules(code: &str) -> Vec<String> {
    let product = product_only(code);
    let declared = |text: &str| -> Vec<String> {
        let lines = text.lines().filter_map(|line| {
            let line = line.trim().strip_suffix(';')?;
            let line =
                line.strip_prefix("pub ").or(line.strip_prefix("pub(crate) ")).unwrap_or(line);
            line.strip_prefix("mod ").map(|name| name.trim().to_owned())
        });
        lines.collect()
    };
    let kept = declared(&product);
    declared(code).into_iter().filter(|name| !kept.contains(name)).collect()
}

fn is_for_tests(attribute: &str) -> bool {
    let inner: String = attribute.chars().filter(|c| !c.is_whitespace()).collect();
    let is_cfg = inner.starts_with("#[cfg(");
    let negated = inner.contains("not(test") || inner.contains("not(loom");
    inner == "#[test]" || (is_cfg && !negated && mentions(&inner, &["test", "loom"]))
}

fn mentions(text: &str, words: &[&str]) -> bool {
    text.split(|c: char| !c.is_alphanumeric() && c != '_').any(|word| words.contains(&word))
}

/// End of the item that follows an attribute: its `;` or its closing brace, whichever comes first.
fn item_end(chars: &[char], mut at: usize) -> usize {
    while at < chars.len() {
        match chars[at] {
            ';' | ',' => return at + 1,
            '{' => return matching(chars, at, '{', '}'),
            '(' => at = matching(chars, at, '(', ')'),
            '[' => at = matching(chars, at, '[', ']'),
            _ => at += 1,
        }
    }
    at
}

fn matching(chars: &[char], from: usize, open: char, close: char) -> usize {
    let mut depth = 0_usize;
    for (offset, &c) in chars[from..].iter().enumerate() {
        if c == open {
            depth += 1;
        } else if c == close {
            depth -= 1;
            if depth == 0 {
                return from + offset + 1;
            }
        }
    }
    chars.len()
}

/// Places where `needle` stands in `code` as a whole word (or as given, where it does not start with a letter): line
/// numbers from 1.
pub fn find_word(code: &str, needle: &str) -> Vec<usize> {
    let is_part = |c: Option<char>| c.is_some_and(|c| c.is_alphanumeric() || c == '_');
    let starts_as_word = needle.starts_with(|c: char| c.is_alphanumeric());
    let ends_as_word = needle.ends_with(|c: char| c.is_alphanumeric());
    let mut lines = Vec::new();
    for (number, line) in code.lines().enumerate() {
        let mut from = 0;
        while let Some(found) = line[from..].find(needle) {
            let start = from + found;
            let end = start + needle.len();
            let inside = (starts_as_word && is_part(line[..start].chars().next_back()))
                || (ends_as_word && is_part(line[end..].chars().next()));
            if !inside {
                lines.push(number + 1);
                break;
            }
            from = end;
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_strings_and_characters_are_blanked_and_lifetimes_are_not() {
        let text = "a /* x /* y */ z */ b // c\n\"d\\\"e\" f r#\"g\"h\"# i 'j' '\\'' k<'l> b\"m\" '\\u{41}' n r#type";
        let code = code_only(text);
        assert_eq!(code.lines().count(), 2);
        assert_eq!(
            code.split_whitespace().collect::<Vec<_>>(),
            ["a", "b", "f", "i", "k<'l>", "b", "n", "r#type"]
        );
    }

    #[test]
    fn tests_and_models_are_blanked_and_the_product_stays() {
        let text = "fn a() {}\n#[cfg(test)]\nmod tests { fn b() { { } } }\nfn c() {}\n#[cfg(all(test, loom))]\n\
                    mod d;\n#[cfg(not(test))]\nfn e() {}\n#[test]\nfn f() { g() }\nfn h(x: [u8; 3]) {}";
        let product = product_only(&code_only(text));
        for (name, stays) in [
            ("a", true),
            ("b", false),
            ("c", true),
            ("d", false),
            ("e", true),
            ("f", false),
            ("h", true),
        ] {
            assert_eq!(!find_word(&product, name).is_empty(), stays, "{name}\n{product}");
        }
        assert_eq!(product.lines().count(), text.lines().count());
    }

    #[test]
    fn modules_declared_for_tests_are_named() {
        let text = "mod a;\n#[cfg(all(loom, test))]\nmod b;\n#[cfg(not(loom))]\npub mod c;\n";
        assert_eq!(test_modules(text), ["b"]);
    }

    #[test]
    fn a_word_is_found_whole() {
        assert_eq!(find_word("unsafe_code\n x unsafe {", "unsafe"), [2]);
        assert_eq!(find_word("a.unwrap()\nb.unwrap_or(1)", ".unwrap()"), [1]);
    }
}
