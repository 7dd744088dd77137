//! Stories about bytes: what is written is read back, and nothing else is read at all.

use super::*;
use proptest::prelude::*;

fn sealed(buf: &mut FrameBuf) -> Vec<u8> {
    let len = buf.seal(7, 9, 11, |bytes| [bytes.len() as u8; TAG_LEN]);
    buf.datagram(len).to_vec()
}

fn inside(datagram: &[u8]) -> Inside<'_> {
    let Ok(Packet::Sealed(sealed)) = Packet::parse(datagram) else { panic!("not sealed") };
    assert_eq!((sealed.key_id, sealed.link_seq), (7, 9));
    assert_eq!(tx_time_us(sealed.authenticated), 11);
    Inside::parse(sealed.authenticated).expect("what we wrote")
}

#[test]
fn a_symbol_reads_back_as_it_was_written() {
    let fields = DataFields {
        flags: flags::LOWPRIO | flags::LAST,
        object: ObjectId(0x0102_0304_0506_0708),
        object_len: 1_000_000,
        group: 513,
        symbol: 70,
        k: 64,
        code: Code::Rs8,
        class: Class::Bundle,
        hops_left: 3,
        parity: 18,
    };
    let mut buf = FrameBuf::default();
    buf.data(&fields, SYMBOL_LEN).fill(0xab);
    let datagram = sealed(&mut buf);
    assert_eq!(datagram.len(), 1_200, "a full symbol makes a packet of 1,200 bytes");
    let Inside::Frame(Frame::Data(data)) = inside(&datagram) else { panic!("no symbol") };
    assert_eq!(data.fields, fields);
    assert_eq!(data.payload, [0xab; SYMBOL_LEN]);
}

#[test]
fn a_long_list_of_groups_fills_one_packet_and_says_how_much_went_in() {
    let mut buf = FrameBuf::default();
    let entries = (0..1_000).map(|group| NackEntry { group, need: 2 });
    assert_eq!(buf.nack(ObjectId(1), 5, entries), FrameBuf::NACK_ENTRIES_MAX);
    let datagram = sealed(&mut buf);
    assert!(datagram.len() <= PACKET_MAX);
    let Inside::Frame(Frame::Nack(nack)) = inside(&datagram) else { panic!("no nack") };
    assert_eq!(nack.entries().len(), FrameBuf::NACK_ENTRIES_MAX);
    assert_eq!(nack.entries().last().map(|entry| entry.group), Some(295));

    assert_eq!(buf.stop(flags::HAVE_ALL, ObjectId(1), 5, 3..6), 3);
    let datagram = sealed(&mut buf);
    let Inside::Frame(Frame::Stop(stop)) = inside(&datagram) else { panic!("no stop") };
    assert_eq!(stop.groups.iter().collect::<Vec<_>>(), [3, 4, 5]);
}

#[test]
fn the_other_frames_read_back_too() {
    let mut buf = FrameBuf::default();
    buf.want(ObjectId(9), 2, b"salt");
    let datagram = sealed(&mut buf);
    let Inside::Frame(Frame::Want(want)) = inside(&datagram) else { panic!("no want") };
    assert_eq!((want.object, want.form, want.body), (ObjectId(9), 2, &b"salt"[..]));

    buf.root(ObjectId(9), 77, 5, 80, &[1; 32], &[2; 64]);
    let datagram = sealed(&mut buf);
    let Inside::Frame(Frame::Root(root)) = inside(&datagram) else { panic!("no root") };
    assert_eq!((root.group, root.leaves, root.object_len), (5, 80, 77));
    assert_eq!((root.root, root.signature), (&[1; 32], &[2; 64]));

    let keep = Keep { echo_time_us: 1, loss_ppm: 20_000, burst_ppm: 1_000_000, ..Keep::default() };
    buf.keep(&keep);
    assert_eq!(inside(&sealed(&mut buf)), Inside::Keep(keep));
    buf.close();
    assert_eq!(inside(&sealed(&mut buf)), Inside::Close);
}

#[test]
fn a_call_and_both_answers_read_back() {
    let ask = write_hello(5, None);
    assert_eq!(Packet::parse(&ask), Ok(Packet::Hello(Hello { id: 5, proof: None })));
    let call = write_hello(5, Some((&[3; 16], &[4; NOISE_1_LEN])));
    let proof = Some((&[3; 16], &[4; NOISE_1_LEN]));
    assert_eq!(Packet::parse(&call), Ok(Packet::Hello(Hello { id: 5, proof })));
    let cookie = write_cookie(5, &[6; 16]);
    let expected = Answer::Cookie { id: 5, cookie: &[6; 16] };
    assert_eq!(Packet::parse(&cookie), Ok(Packet::Answer(expected)));
    let noise = write_noise_answer(5, &[7; NOISE_2_LEN]);
    let expected = Answer::Noise { id: 5, message: &[7; NOISE_2_LEN] };
    assert_eq!(Packet::parse(&noise), Ok(Packet::Answer(expected)));
    assert!(cookie.len() <= ask.len() && noise.len() <= call.len(), "an answer multiplies traffic");
}

#[test]
fn one_byte_too_few_or_too_many_is_no_packet() {
    let call = write_hello(5, Some((&[3; 16], &[4; NOISE_1_LEN])));
    let mut longer = call.to_vec();
    longer.push(0);
    assert!(matches!(Packet::parse(&longer), Err(WireError::Length { got: 137, .. })));
    for len in 0..call.len() {
        assert!(Packet::parse(&call[..len]).is_err(), "{len} bytes were a packet");
    }
    assert!(matches!(Packet::parse(&[0x10 | 9; 48]), Err(WireError::Kind { got: 0x19 })));
    assert!(matches!(Packet::parse(&[0x23; 48]), Err(WireError::Kind { got: 0x23 })));
}

proptest! {
    #[test]
    fn any_bytes_are_read_without_a_panic_and_what_is_read_has_one_encoding(
        mut bytes in proptest::collection::vec(any::<u8>(), 0..PACKET_MAX + 20),
        kind in 0_u8..10,
        zeros in proptest::collection::vec(0_usize..48, 0..40),
    ) {
        if let Some(first) = bytes.first_mut() {
            *first = VERSION << 4 | kind;
        }
        for at in zeros {
            if let Some(byte) = bytes.get_mut(at).filter(|_| at > 0) {
                *byte = 0;
            }
        }
        if let Ok(Packet::Sealed(sealed)) = Packet::parse(&bytes)
            && let Ok(inside) = Inside::parse(sealed.authenticated)
        {
            let mut buf = FrameBuf::default();
            write_again(&inside, &mut buf);
            let len = buf.seal(
                sealed.key_id,
                sealed.link_seq,
                tx_time_us(sealed.authenticated),
                |_| *sealed.tag,
            );
            prop_assert_eq!(buf.datagram(len), &bytes[..]);
        }
    }
}

fn write_again(inside: &Inside<'_>, buf: &mut FrameBuf) {
    match inside {
        Inside::Keep(keep) => buf.keep(keep),
        Inside::Close => buf.close(),
        Inside::Frame(Frame::Data(data)) => {
            buf.data(&data.fields, data.payload.len()).copy_from_slice(data.payload);
        }
        Inside::Frame(Frame::Nack(nack)) => {
            buf.nack(nack.object, nack.object_len, nack.entries());
        }
        Inside::Frame(Frame::Stop(stop)) => {
            buf.stop(stop.flags, stop.object, stop.object_len, stop.groups.iter());
        }
        Inside::Frame(Frame::Want(want)) => buf.want(want.object, want.form, want.body),
        Inside::Frame(Frame::Root(root)) => buf.root(
            root.object,
            root.object_len,
            root.group,
            root.leaves,
            root.root,
            root.signature,
        ),
    }
}
