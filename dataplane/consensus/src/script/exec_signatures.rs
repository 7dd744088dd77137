//! CHECKSIG and CHECKMULTISIG.
//!
//! Encodings first (they are errors), then the same check made earlier in this run, then the digest, then the curve.
//! What the [`SigCheck`] answers may be an assumption; see `sigcheck`.
//!
//! Source: SV Node `script/interpreter.cpp` OP_CHECKSIG, OP_CHECKMULTISIG; consensus rules 2.7, 2.8.

use super::budget::SIGNATURE_CHECK_OPERATIONS;
use super::check_cache::CodeId;
use super::encoding::{self, hash_type};
use super::error::ScriptError;
use super::exec::{Exec, Stop};
use super::flags::Flags;
use super::limits::COUNT_BYTES_MAX;
use super::number;
use super::opcode::write_push;
use super::script_code::find_and_delete;
use super::sigcheck::SigCheck;
use super::stack::Span;

/// The script code of one opcode.
#[derive(Clone, Copy)]
enum Code {
    /// The script as it is, from the code start.
    Plain,
    /// CHECKSIG under the original digest: the signature is removed from it.
    OwnRemoved,
    /// Put together in `Exec::code`, with several signatures removed: no two opcodes share it.
    Built,
}

impl<S: SigCheck> Exec<'_, S> {
    pub fn check_sig(&mut self, verify: bool) -> Result<(), Stop> {
        self.stack.need(2)?;
        let (sig, key) = (self.stack.top(2), self.stack.top(1));
        self.check_encodings(sig, key)?;
        let code = if self.is_removed_from_code(sig) { Code::OwnRemoved } else { Code::Plain };
        let good = self.signature_is_good(sig, key, code)?;
        if !good && sig.len() > 0 && self.null_fail() {
            return Err(ScriptError::SigNullFail.into());
        }
        if verify && !good {
            return Err(ScriptError::CheckSigVerify.into());
        }
        self.stack.pop_many(2);
        if !verify {
            self.stack.push_bool(good)?;
        }
        Ok(())
    }

    pub fn check_multisig(&mut self, verify: bool) -> Result<(), Stop> {
        // From the top: n, keys, m, signatures, and one item more that nobody asked for.
        self.stack.need(1)?;
        let keys = self.count(self.stack.top(1))?;
        if keys < 0 || keys as u64 > self.limits.multisig_keys {
            return Err(ScriptError::PubkeyCount.into());
        }
        let keys = keys as usize;
        self.frame.operations += keys as u64;
        if self.frame.operations > self.limits.operations {
            return Err(ScriptError::OpCount.into());
        }
        let first_key = 2;
        let count_place = first_key + keys;
        self.stack.need(count_place)?;
        let sigs = self.count(self.stack.top(count_place))?;
        if sigs < 0 || sigs as u64 > keys as u64 {
            return Err(ScriptError::SigCount.into());
        }
        let sigs = sigs as usize;
        let first_sig = count_place + 1;
        let items = count_place + sigs;
        // The extra item is asked for together with the signatures, before any of them is looked at.
        self.stack.need(items + 1)?;
        self.budget.charge_operations((keys + sigs) as u64)?;

        let code = self.multisig_code(first_sig, sigs)?;
        let (mut sig_at, mut key_at) = (first_sig, first_key);
        let (mut sigs_left, mut keys_left) = (sigs, keys);
        let mut good = true;
        while good && sigs_left > 0 {
            let (sig, key) = (self.stack.top(sig_at), self.stack.top(key_at));
            // Only what is reached is tested: keys and signatures behind the decision may be anything.
            self.check_encodings(sig, key)?;
            let code = match code {
                Code::Plain if self.is_removed_from_code(sig) => Code::OwnRemoved,
                other => other,
            };
            if self.signature_is_good(sig, key, code)? {
                sig_at += 1;
                sigs_left -= 1;
            }
            key_at += 1;
            keys_left -= 1;
            good = sigs_left <= keys_left;
        }

        if !good
            && self.null_fail()
            && (first_sig..first_sig + sigs).any(|at| self.stack.top(at).len() > 0)
        {
            return Err(ScriptError::SigNullFail.into());
        }
        self.stack.pop_many(items);
        if self.flags.has(Flags::NULLDUMMY) && !self.relaxed && self.stack.top(1).len() > 0 {
            return Err(ScriptError::SigNullDummy.into());
        }
        self.stack.pop();
        if verify {
            return if good { Ok(()) } else { Err(ScriptError::CheckMultisigVerify.into()) };
        }
        Ok(self.stack.push_bool(good)?)
    }

    /// A count of CHECKMULTISIG: at most four bytes in every era.
    fn count(&self, item: Span) -> Result<i64, ScriptError> {
        let bytes = self.bytes(item);
        number::check(bytes, COUNT_BYTES_MAX, self.minimal)?;
        Ok(number::decode(bytes).clamped())
    }

    fn null_fail(&self) -> bool {
        self.flags.has(Flags::NULLFAIL) && !self.relaxed
    }

    fn check_encodings(&self, sig: Span, key: Span) -> Result<(), ScriptError> {
        encoding::check_signature_encoding(self.bytes(sig), self.flags, self.relaxed)?;
        encoding::check_pubkey_encoding(self.bytes(key), self.flags)
    }

    /// Whether a signature is removed from the script code it signs: not where the FORKID flag is on and it says FORKID.
    fn is_removed_from_code(&self, sig: Span) -> bool {
        let says_fork_id = self.bytes(sig).last().is_some_and(|last| last & hash_type::FORKID != 0);
        !self.flags.has(Flags::ENABLE_SIGHASH_FORKID) || !says_fork_id
    }

    /// Removes all signatures from the script code that have to be. When nothing was found the code is the plain one.
    fn multisig_code(&mut self, first_sig: usize, sigs: usize) -> Result<Code, Stop> {
        let mut built = false;
        let mut removed = false;
        for at in first_sig..first_sig + sigs {
            let sig = self.stack.top(at);
            if self.is_removed_from_code(sig) {
                if !built {
                    self.build_code()?;
                    built = true;
                }
                removed |= self.remove_from_code(sig)?;
            }
        }
        Ok(if removed { Code::Built } else { Code::Plain })
    }

    /// Puts the script code together in `self.code`.
    fn build_code(&mut self) -> Result<(), Stop> {
        let own = &self.script[self.frame.code_start..];
        self.budget.charge_hashed((own.len() + self.code_tail.len()) as u64)?;
        self.code.clear();
        self.code.extend_from_slice(own);
        self.code.extend_from_slice(self.code_tail);
        Ok(())
    }

    fn remove_from_code(&mut self, sig: Span) -> Result<bool, Stop> {
        self.budget.charge_hashed((self.code.len() + sig.len()) as u64)?;
        self.needle.clear();
        write_push(self.needle, self.stack.bytes(&self.sources, sig));
        Ok(find_and_delete(self.code, self.needle))
    }

    fn signature_is_good(&mut self, sig: Span, key: Span, code: Code) -> Result<bool, Stop> {
        let pubkey = self.stack.bytes(&self.sources, key);
        if sig.len() == 0 || !encoding::has_valid_pubkey_size(pubkey) {
            return Ok(false);
        }
        let id = CodeId {
            source: self.script_source as u8,
            own_removed: matches!(code, Code::OwnRemoved),
            start: self.frame.code_start,
        };
        let remembered = !matches!(code, Code::Built);
        if remembered
            && let Some(good) = self.checks.check(id, self.stack.bytes(&self.sources, sig), pubkey)
        {
            return Ok(good);
        }
        if self.checker.is_full() {
            return Err(Stop::BatchFull);
        }
        self.budget.charge_operations(SIGNATURE_CHECK_OPERATIONS)?;
        let digest = self.digest(sig, code, id)?;

        let signature = self.stack.bytes(&self.sources, sig);
        let pubkey = self.stack.bytes(&self.sources, key);
        let (_, der) = signature.split_last().expect("an empty signature was answered above");
        let good = self.checker.check(pubkey, der, &digest);
        if remembered {
            self.checks.remember_check(id, signature, pubkey, good);
        }
        Ok(good)
    }

    fn digest(&mut self, sig: Span, code: Code, id: CodeId) -> Result<[u8; 32], Stop> {
        let hash_type = *self.bytes(sig).last().expect("an empty signature was answered above");
        let plain = match code {
            Code::Plain => true,
            Code::OwnRemoved => {
                self.build_code()?;
                !self.remove_from_code(sig)?
            }
            Code::Built => false,
        };
        let id = CodeId { own_removed: false, ..id };
        if plain && let Some(known) = self.checks.digest(id, hash_type) {
            return Ok(known);
        }
        if plain && !self.code_tail.is_empty() && matches!(code, Code::Plain) {
            self.build_code()?;
        }
        let script_code = if plain && self.code_tail.is_empty() {
            &self.script[self.frame.code_start..]
        } else {
            self.code.as_slice()
        };
        let digest = self.sighash.digest(
            &self.tx.view,
            self.tx.input_index,
            u32::from(hash_type),
            self.tx.value_sat,
            script_code,
            self.flags.has(Flags::ENABLE_SIGHASH_FORKID),
            self.budget,
        )?;
        if plain {
            self.checks.remember_digest(id, hash_type, digest);
        }
        Ok(digest)
    }
}
