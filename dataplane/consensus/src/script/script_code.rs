//! The script code: which bytes of a script a signature commits to.
//!
//! It is the running script from behind its last executed code separator; Chronicle appends the locking script when the
//! unlocking script is running. Signatures under the original digest are removed from it first ([`find_and_delete`]),
//! unless the FORKID digest is meant.
//!
//! Source: SV Node `interpreter.cpp` `CleanupScriptCode`, `CScript::FindAndDelete`; consensus rules 2.7, 3.5.

use super::opcode::instruction;

/// Removes every occurrence of `needle` that stands at an instruction boundary; `script` is changed in place.
///
/// At each boundary as many consecutive copies as follow are skipped, bytewise. Where an instruction does not parse,
/// the rest is kept as it is. An empty needle changes nothing. Gives whether anything was removed.
pub(super) fn find_and_delete(script: &mut Vec<u8>, needle: &[u8]) -> bool {
    if needle.is_empty() {
        return false;
    }
    let (mut kept, mut from, mut at) = (0, 0, 0);
    let mut found = false;
    loop {
        // Keep what the last instruction was, then skip copies of the needle.
        script.copy_within(from..at, kept);
        kept += at - from;
        while script[at..].starts_with(needle) {
            at += needle.len();
            found = true;
        }
        from = at;
        match instruction(script, at) {
            Ok(step) => at = step.next,
            Err(_) => break,
        }
    }
    let end = script.len();
    script.copy_within(from..end, kept);
    script.truncate(kept + end - from);
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn without(script: &[u8], needle: &[u8]) -> Vec<u8> {
        let mut script = script.to_vec();
        find_and_delete(&mut script, needle);
        script
    }

    #[test]
    fn copies_at_instruction_boundaries_go_and_others_stay() {
        assert_eq!(without(&[0x02, 0xff, 0x03, 0x51], &[0x02, 0xff, 0x03]), [0x51]);
        assert_eq!(without(&[0x51, 0x51, 0x52, 0x51], &[0x51]), [0x52]);
        // Inside pushed bytes nothing is found.
        assert_eq!(without(&[0x02, 0x51, 0x51, 0x51], &[0x51]), [0x02, 0x51, 0x51]);
        // A copy that makes the next boundary move is skipped as bytes, not as instructions.
        assert_eq!(
            without(&[0x03, 0x02, 0xff, 0x03, 0x02, 0xff, 0x03], &[0x02, 0xff, 0x03]),
            [0x03, 0x02, 0xff, 0x03]
        );
        // A truncated push ends the search; the rest is kept.
        assert_eq!(without(&[0x51, 0x05, 0x51], &[0x51]), [0x05, 0x51]);
        assert_eq!(without(&[0x51], &[]), [0x51]);
    }
}
