//! The locking scripts workloads use.

/// `OP_DUP OP_HASH160 <hash> OP_EQUALVERIFY OP_CHECKSIG`.
pub fn pay_to_key_hash(hash: &[u8; 20]) -> Vec<u8> {
    let mut script = Vec::with_capacity(25);
    script.extend_from_slice(&[0x76, 0xa9, 20]);
    script.extend_from_slice(hash);
    script.extend_from_slice(&[0x88, 0xac]);
    script
}

/// `OP_TRUE`: anybody can spend it; what remains is the cost of everything but signatures.
pub fn anyone() -> Vec<u8> {
    vec![0x51]
}

/// `OP_FALSE OP_RETURN <payload>`: data that is never a coin.
pub fn data(payload: &[u8]) -> Vec<u8> {
    let mut script = vec![0x00, 0x6a];
    match payload.len() {
        0..=0x4b => script.push(payload.len() as u8),
        0x4c..=0xff => script.extend_from_slice(&[0x4c, payload.len() as u8]),
        0x100..=0xffff => {
            script.push(0x4d);
            script.extend_from_slice(&(payload.len() as u16).to_le_bytes());
        }
        _ => {
            script.push(0x4e);
            script.extend_from_slice(&(payload.len() as u32).to_le_bytes());
        }
    }
    script.extend_from_slice(payload);
    script
}
