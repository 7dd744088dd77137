//! The six networks: what differs between them, and nothing that does not.
//!
//! A [`ChainParams`] is plain data; [`ChainParams::of`] gives a network's, [`ChainParams::builder`] changes what SV Node lets
//! an operator change (activation heights on regtest, magic bytes anywhere). From the heights come two answers that the rest
//! of the crate asks for: the [`Era`] of a height, and the script flags of a block.
//!
//! Sources: SV Node `chainparams.cpp`, `protocol_era.cpp`, `verify_script_flags.cpp`; go-chaincfg for teratestnet and tstn.

mod checkpoints;
mod flags;
mod genesis;

use crate::hash::{BlockHash, hash_from_text};
use crate::header::Header;
use crate::pow::U256;
use std::fmt;
use std::str::FromStr;

/// A height that no chain reaches: "never". SV Node uses it for BIP34 on regtest and STN.
pub const HEIGHT_NEVER: u32 = 100_000_000;

/// One of the networks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum Network {
    /// The network with value on it.
    Main = 0,
    /// The public test network.
    Test = 1,
    /// SV Node's scaling test network.
    Stn = 2,
    /// A chain of one's own.
    Regtest = 3,
    /// Teranode's public test network.
    TeraTestnet = 4,
    /// Teranode's scaling test network.
    Tstn = 5,
}

impl Network {
    /// All of them.
    pub const ALL: [Self; 6] =
        [Self::Main, Self::Test, Self::Stn, Self::Regtest, Self::TeraTestnet, Self::Tstn];

    /// The name in configuration, as Teranode spells it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Main => "mainnet",
            Self::Test => "testnet",
            Self::Stn => "stn",
            Self::Regtest => "regtest",
            Self::TeraTestnet => "teratestnet",
            Self::Tstn => "tstn",
        }
    }

    /// The name in `getblockchaininfo`, as SV Node spells it.
    pub fn chain_name(self) -> &'static str {
        match self {
            Self::Main => "main",
            Self::Test => "test",
            other => other.name(),
        }
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// A network name that is not one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "the network {got:?} is not known; try mainnet (main), testnet (test), stn, regtest, teratestnet or tstn"
)]
pub struct UnknownNetwork {
    /// What was asked for.
    pub got: String,
}

impl FromStr for Network {
    type Err = UnknownNetwork;

    fn from_str(text: &str) -> Result<Self, UnknownNetwork> {
        Self::ALL
            .into_iter()
            .find(|n| text == n.name() || text == n.chain_name())
            .ok_or_else(|| UnknownNetwork { got: text.to_owned() })
    }
}

/// The protocol era of a height. Source: SV Node `protocol_era.h`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum Era {
    /// Before the Genesis upgrade.
    PreGenesis = 0,
    /// From Genesis on, before Chronicle.
    PostGenesis = 1,
    /// From Chronicle on.
    PostChronicle = 2,
}

/// A block that is known to be on the chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Checkpoint {
    /// Its height.
    pub height: u32,
    /// Its hash.
    pub hash: BlockHash,
}

/// First bytes of addresses and keys in base58.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Base58Prefixes {
    /// Pay to public key hash.
    pub p2pkh: u8,
    /// Pay to script hash (coins from before Genesis).
    pub p2sh: u8,
    /// Private key.
    pub wif: u8,
    /// Extended public key.
    pub xpub: [u8; 4],
    /// Extended private key.
    pub xprv: [u8; 4],
}

const PREFIXES_MAIN: Base58Prefixes = Base58Prefixes {
    p2pkh: 0x00,
    p2sh: 0x05,
    wif: 0x80,
    xpub: [0x04, 0x88, 0xb2, 0x1e],
    xprv: [0x04, 0x88, 0xad, 0xe4],
};
const PREFIXES_TEST: Base58Prefixes = Base58Prefixes {
    p2pkh: 0x6f,
    p2sh: 0xc4,
    wif: 0xef,
    xpub: [0x04, 0x35, 0x87, 0xcf],
    xprv: [0x04, 0x35, 0x83, 0x94],
};

/// How a network finds the required bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Retarget {
    /// SV Node: every 2016 blocks with the emergency adjustment, then the DAA above `daa_height`.
    SvNode = 0,
    /// Teranode: only the DAA, the limit below height 149. Source: `services/blockchain/Difficulty.go`.
    Teranode = 1,
    /// Regtest: the bits of the block before.
    None = 2,
}

/// Everything that is particular to a network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChainParams {
    /// Which network.
    pub network: Network,
    /// First four bytes of every P2P message.
    pub p2p_magic: [u8; 4],
    /// First four bytes of a record in SV Node's block files.
    pub disk_magic: Option<[u8; 4]>,
    /// TCP port of the P2P protocol.
    pub p2p_port: u16,
    /// TCP port of SV Node's JSON-RPC.
    pub rpc_port: Option<u16>,
    /// Header of the first block.
    pub genesis_header: Header,
    /// Hash of the first block.
    pub genesis_hash: BlockHash,
    /// Easiest allowed target in compact form.
    pub pow_limit_bits: u32,
    /// How required bits are found.
    pub retarget: Retarget,
    /// A block more than twenty minutes after the one before may have the easiest target.
    pub allows_min_difficulty: bool,
    /// Blocks after which the subsidy halves.
    pub halving_blocks: u32,
    /// First height whose coinbase must begin with its height.
    pub bip34_height: u32,
    /// The block at `bip34_height` where known; below it BIP30 need not be checked.
    pub bip34_hash: Option<BlockHash>,
    /// First height with `OP_CHECKLOCKTIMEVERIFY` and version 4.
    pub bip65_height: u32,
    /// First height with strict DER and version 3.
    pub bip66_height: u32,
    /// First height with relative locks and median-time lock times (BIP68, 112, 113).
    pub csv_height: u32,
    /// P2SH is evaluated from the block after this height.
    pub p2sh_height: u32,
    /// FORKID signatures are demanded from the block after this height.
    pub uahf_height: u32,
    /// The DAA, low S and NULLFAIL hold from the block after this height.
    pub daa_height: u32,
    /// First height with Genesis rules.
    pub genesis_height: u32,
    /// First height with Chronicle rules.
    pub chronicle_height: u32,
    /// Base58 prefixes.
    pub prefixes: Base58Prefixes,
    /// Non-standard transactions are refused by default. Source: SV Node `fRequireStandard`.
    pub requires_standard: bool,
    /// Scripts of this block and its ancestors are assumed to be valid by default.
    pub assume_valid: Option<BlockHash>,
    /// Chain work a chain must have before the node believes to be synchronised, most significant byte first.
    pub minimum_chain_work: [u8; 32],
    checkpoints: [&'static [Checkpoint]; 2],
}

/// A change of parameters that the network does not allow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ParamsError {
    /// Activation heights are facts everywhere but on regtest.
    #[error("activation heights cannot be changed on {network}; they can on regtest")]
    FixedHeights {
        /// The network.
        network: Network,
    },
    /// Chronicle must be above zero and not below Genesis.
    #[error("Chronicle at {chronicle} does not follow Genesis at {genesis}; try a height above it")]
    ChronicleBeforeGenesis {
        /// Height of Genesis.
        genesis: u32,
        /// Height of Chronicle.
        chronicle: u32,
    },
}

/// Changes parameters before they are used.
#[derive(Debug, Clone)]
pub struct ChainParamsBuilder {
    params: ChainParams,
    moved_heights: bool,
}

impl ChainParamsBuilder {
    /// First height with Genesis rules (`-genesisactivationheight`).
    pub fn genesis_height(mut self, height: u32) -> Self {
        self.params.genesis_height = height;
        self.moved_heights = true;
        self
    }

    /// First height with Chronicle rules (`-chronicleactivationheight`).
    pub fn chronicle_height(mut self, height: u32) -> Self {
        self.params.chronicle_height = height;
        self.moved_heights = true;
        self
    }

    /// Magic of the P2P protocol (`-magicbytes`).
    pub fn p2p_magic(mut self, magic: [u8; 4]) -> Self {
        self.params.p2p_magic = magic;
        self
    }

    /// The parameters, if the network allows the changes.
    pub fn build(self) -> Result<ChainParams, ParamsError> {
        let p = self.params;
        if self.moved_heights && p.network != Network::Regtest {
            return Err(ParamsError::FixedHeights { network: p.network });
        }
        if p.chronicle_height == 0 || p.chronicle_height < p.genesis_height {
            return Err(ParamsError::ChronicleBeforeGenesis {
                genesis: p.genesis_height,
                chronicle: p.chronicle_height,
            });
        }
        Ok(p)
    }
}

const MAIN: ChainParams = ChainParams {
    network: Network::Main,
    p2p_magic: [0xe3, 0xe1, 0xf3, 0xe8],
    disk_magic: Some([0xf9, 0xbe, 0xb4, 0xd9]),
    p2p_port: 8333,
    rpc_port: Some(8332),
    genesis_header: genesis::header(
        genesis::MERKLE_2009,
        1_231_006_505,
        0x1d00_ffff,
        2_083_236_893,
    ),
    genesis_hash: BlockHash(hash_from_text(
        "000000000019d6689c085ae165831e934ff763ae46a2a6c172b3f1b60a8ce26f",
    )),
    pow_limit_bits: 0x1d00_ffff,
    retarget: Retarget::SvNode,
    allows_min_difficulty: false,
    halving_blocks: 210_000,
    bip34_height: 227_931,
    bip34_hash: Some(BlockHash(hash_from_text(
        "000000000000024b89b42a942fe0d9fea3bb44ab7bd1b19115dd6a759c0808b8",
    ))),
    bip65_height: 388_381,
    bip66_height: 363_725,
    csv_height: 419_328,
    p2sh_height: 173_805,
    uahf_height: 478_558,
    daa_height: 504_031,
    genesis_height: 620_538,
    chronicle_height: 943_816,
    prefixes: PREFIXES_MAIN,
    requires_standard: true,
    assume_valid: Some(BlockHash(hash_from_text(
        "000000000000000000e45ad2fbcc5ff3e85f0868dd8f00ad4e92dffabe28f8d2",
    ))),
    minimum_chain_work: work_from_text(
        "000000000000000000000000000000000000000000a0f3064330647e2f6c4828",
    ),
    checkpoints: [checkpoints::MAIN, checkpoints::MAIN_MORE],
};

const TEST: ChainParams = ChainParams {
    network: Network::Test,
    p2p_magic: [0xf4, 0xe5, 0xf3, 0xf4],
    disk_magic: Some([0x0b, 0x11, 0x09, 0x07]),
    p2p_port: 18333,
    rpc_port: Some(18332),
    genesis_header: genesis::header(genesis::MERKLE_2009, 1_296_688_602, 0x1d00_ffff, 414_098_458),
    genesis_hash: BlockHash(hash_from_text(
        "000000000933ea01ad0ee984209779baaec3ced90fa3f408719526f8d77f4943",
    )),
    allows_min_difficulty: true,
    bip34_height: 21_111,
    bip34_hash: Some(BlockHash(hash_from_text(
        "0000000023b3a96d3484e5abb3755c413e7d41500f8e2a5c3f0dd01299cd8ef8",
    ))),
    bip65_height: 581_885,
    bip66_height: 330_776,
    csv_height: 770_112,
    p2sh_height: 519,
    uahf_height: 1_155_875,
    daa_height: 1_188_697,
    genesis_height: 1_344_302,
    chronicle_height: 1_713_168,
    prefixes: PREFIXES_TEST,
    requires_standard: false,
    assume_valid: Some(BlockHash(hash_from_text(
        "0000000000327972b8470c11755adf8f4319796bafae01f5a6650490b98a17db",
    ))),
    minimum_chain_work: work_from_text(
        "00000000000000000000000000000000000000000000002a650f6ff7649485da",
    ),
    checkpoints: [checkpoints::TEST, checkpoints::TEST_MORE],
    ..MAIN
};

/// SV Node leaves the BIP65, BIP66 and CSV heights of STN uninitialised; these are go-chaincfg's.
const STN: ChainParams = ChainParams {
    network: Network::Stn,
    p2p_magic: [0xfb, 0xce, 0xc4, 0xf9],
    disk_magic: Some([0xfb, 0xce, 0xc4, 0xf9]),
    p2p_port: 9333,
    rpc_port: Some(9332),
    allows_min_difficulty: false,
    bip34_height: HEIGHT_NEVER,
    bip34_hash: None,
    bip65_height: 1_351,
    bip66_height: 1_251,
    csv_height: 0,
    p2sh_height: 1,
    uahf_height: 15,
    daa_height: 2_200,
    genesis_height: 100,
    chronicle_height: 250,
    assume_valid: None,
    minimum_chain_work: [0; 32],
    checkpoints: [checkpoints::STN, &[]],
    ..TEST
};

const REGTEST: ChainParams = ChainParams {
    network: Network::Regtest,
    p2p_magic: [0xda, 0xb5, 0xbf, 0xfa],
    disk_magic: Some([0xfa, 0xbf, 0xb5, 0xda]),
    p2p_port: 18444,
    rpc_port: Some(18332),
    genesis_header: genesis::header(genesis::MERKLE_2009, 1_296_688_602, 0x207f_ffff, 2),
    genesis_hash: BlockHash(hash_from_text(
        "0f9188f13cb7b2c71f2a335e3a4fc328bf5beb436012afca590b1a11466e2206",
    )),
    pow_limit_bits: 0x207f_ffff,
    retarget: Retarget::None,
    allows_min_difficulty: true,
    halving_blocks: 150,
    bip65_height: 1_351,
    bip66_height: 1_251,
    csv_height: 576,
    uahf_height: 0,
    daa_height: 0,
    genesis_height: 10_000,
    chronicle_height: 15_000,
    checkpoints: [&[], &[]],
    ..STN
};

const TERATESTNET: ChainParams = ChainParams {
    network: Network::TeraTestnet,
    p2p_magic: [0x0d, 0x01, 0x09, 0x0c],
    disk_magic: None,
    p2p_port: 18333,
    rpc_port: None,
    genesis_header: genesis::header(genesis::MERKLE_2009, 1_755_606_836, 0x1d00_ffff, 0x411f_6c9c),
    genesis_hash: BlockHash(hash_from_text(
        "000000000499eabba0a88f5b3747231c74b9191c1a4a04b2c2ea817976b7776d",
    )),
    retarget: Retarget::Teranode,
    allows_min_difficulty: true,
    bip34_height: 0,
    bip65_height: 0,
    bip66_height: 0,
    csv_height: 0,
    p2sh_height: 0,
    uahf_height: 0,
    daa_height: 0,
    genesis_height: 1,
    chronicle_height: 2,
    checkpoints: [checkpoints::TERATESTNET, &[]],
    ..STN
};

/// The wire order of tstn's magic follows its constant 0x00000004; no live peer has confirmed it.
const TSTN: ChainParams = ChainParams {
    network: Network::Tstn,
    p2p_magic: [0x04, 0x00, 0x00, 0x00],
    genesis_header: genesis::header(genesis::MERKLE_2026, 1_782_864_000, 0x1d00_ffff, 0x6a20_1818),
    genesis_hash: BlockHash(hash_from_text(
        "000000005d221c0e023cb56b5682cf094f32cd959958b40bc931e5797cae706c",
    )),
    checkpoints: [&[], &[]],
    ..TERATESTNET
};

/// Bytes of a number as it is written, most significant first.
const fn work_from_text(text: &str) -> [u8; 32] {
    let little = hash_from_text(text);
    let mut big = [0u8; 32];
    let mut i = 0;
    while i < 32 {
        big[i] = little[31 - i];
        i += 1;
    }
    big
}

impl ChainParams {
    /// The parameters of a network.
    pub fn of(network: Network) -> Self {
        match network {
            Network::Main => MAIN,
            Network::Test => TEST,
            Network::Stn => STN,
            Network::Regtest => REGTEST,
            Network::TeraTestnet => TERATESTNET,
            Network::Tstn => TSTN,
        }
    }

    /// The parameters of a network, to be changed.
    pub fn builder(network: Network) -> ChainParamsBuilder {
        ChainParamsBuilder { params: Self::of(network), moved_heights: false }
    }

    /// Easiest allowed target: all ones below its compact form's exponent.
    ///
    /// 2^255 - 1 on regtest, 2^224 - 1 elsewhere. Source: SV Node `chainparams.cpp` `powLimit`.
    pub fn pow_limit(&self) -> U256 {
        match self.network {
            Network::Regtest => U256::MAX >> 1,
            _ => U256::MAX >> 32,
        }
    }

    /// The first block, whole. Recomputed from its parts, nothing is stored.
    pub fn genesis_block(&self) -> Vec<u8> {
        genesis::block(self)
    }

    /// The era of a height. Source: SV Node `protocol_era.cpp` `GetProtocolEra`.
    pub fn era(&self, height: u32) -> Era {
        if height < self.genesis_height {
            Era::PreGenesis
        } else if height < self.chronicle_height {
            Era::PostGenesis
        } else {
            Era::PostChronicle
        }
    }

    /// Lowest header version at a height. Source: SV Node `validation.cpp` `ContextualCheckBlockHeader`.
    pub fn version_floor(&self, height: u32) -> i32 {
        if height >= self.bip65_height {
            4
        } else if height >= self.bip66_height {
            3
        } else if height >= self.bip34_height {
            2
        } else {
            i32::MIN
        }
    }

    /// New coins of a block, in satoshi. Source: SV Node `validation.cpp` `GetBlockSubsidy`.
    pub fn subsidy_sat(&self, height: u32) -> u64 {
        let halvings = height / self.halving_blocks;
        if halvings >= 64 { 0 } else { 5_000_000_000 >> halvings }
    }

    /// All checkpoints, SV Node's first, then go-chaincfg's; ordered by height within each.
    pub fn checkpoints(&self) -> impl Iterator<Item = Checkpoint> + use<> {
        let [first, second] = self.checkpoints;
        first.iter().chain(second).copied()
    }

    /// The hash a block at this height must have, if there is a checkpoint (the genesis block is one).
    pub fn checkpoint_at(&self, height: u32) -> Option<BlockHash> {
        if height == 0 {
            return Some(self.genesis_hash);
        }
        self.checkpoints().find(|c| c.height == height).map(|c| c.hash)
    }

    /// True if BIP30 (no duplicate of an unspent transaction) must be looked up for this block.
    ///
    /// `on_bip34_chain`: the ancestor at `bip34_height` is `bip34_hash`. The two mainnet blocks that broke the rule are
    /// named. Source: SV Node `validation.cpp` `ConnectBlock`.
    pub fn needs_bip30(&self, height: u32, hash: &BlockHash, on_bip34_chain: bool) -> bool {
        const REPEATS: [Checkpoint; 2] = [
            Checkpoint {
                height: 91_842,
                hash: BlockHash(hash_from_text(
                    "00000000000a4d0a398161ffc163c503763b1f4360639393e0e4c8e300e0caec",
                )),
            },
            Checkpoint {
                height: 91_880,
                hash: BlockHash(hash_from_text(
                    "00000000000743f190a18c5577a3c2d2a1f610ae9601ac046a38084ccb7cd721",
                )),
            },
        ];
        if REPEATS.contains(&Checkpoint { height, hash: *hash }) {
            return false;
        }
        !(on_bip34_chain && self.bip34_hash.is_some() && height > self.bip34_height)
    }
}

#[cfg(test)]
mod tests;
