use proptest::prelude::*;

use super::*;

fn atom(kind: &[u8; 4], body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len() + 8).unwrap().to_be_bytes();
    [&length, &kind[..], body].concat()
}

fn words(words: &[u32]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_be_bytes()).collect()
}

fn track(handler: &[u8; 4], sides: (u32, u32), table: &[u8]) -> Vec<u8> {
    let header = [words(&[0; 19]), words(&[sides.0 << 16, sides.1 << 16])].concat();
    let times = words(&[0, 0, 0, 24_000, 120_000, 0]);
    let handler = [&words(&[0, 0]), &handler[..], &[0; 12]].concat();
    let samples = atom(b"stbl", &[atom(b"stsd", &[0; 90]), table.to_vec()].concat());
    let media = [
        atom(b"mdhd", &times),
        atom(b"hdlr", &handler),
        atom(b"minf", &samples),
    ];
    let track = [atom(b"tkhd", &header), atom(b"mdia", &media.concat())];
    atom(b"trak", &track.concat())
}

/// The description of a video of 640 by 360 pixels and 120 frames, behind a track with sound.
fn description(table: &[u8]) -> Vec<u8> {
    let sound = track(b"soun", (0, 0), &[]);
    atom(
        b"moov",
        &[
            atom(b"mvhd", &[0; 100]),
            sound,
            track(b"vide", (640, 360), table),
        ]
        .concat(),
    )
}

/// The times of all frames but one, and the time of one.
fn times() -> Vec<u8> {
    atom(b"stts", &words(&[0, 2, 119, 1_001, 1, 1_000]))
}

/// A video whose description is at its start or its end.
pub(in crate::comfy) fn video(is_at_end: bool) -> Vec<u8> {
    let kind = atom(b"ftyp", b"isomabcd");
    let frames = [
        vec![0, 0, 0, 1],
        b"mdat".to_vec(),
        words(&[0, 200_016]),
        vec![7; 200_000],
    ]
    .concat();
    let description = description(&times());
    if is_at_end {
        [kind, frames, description].concat()
    } else {
        [kind, description, frames].concat()
    }
}

const SIZE: ImageSize = ImageSize {
    width: 640,
    height: 360,
    frames: 120,
    milliseconds: 5_000,
};

#[test]
fn a_video_shows_its_size_and_its_frames() {
    assert!(is_video(&video(false)));
    assert_eq!(read(&video(false)), VideoHead::Size(SIZE));
    let by_size = atom(b"stsz", &words(&[0, 0, 120]));
    assert_eq!(read(&description(&by_size)), VideoHead::Size(SIZE));
    // Of a long table only the start is there.
    let long = atom(b"stts", &words(&[0, 1_000_000, 1, 1_000]));
    let both = description(&[long, by_size].concat());
    assert_eq!(read(&both), VideoHead::Size(SIZE));
}

#[test]
fn a_description_behind_the_frames_is_found() {
    let video = video(true);
    let VideoHead::Beyond(at) = read(&video[..64_000]) else {
        panic!("it is not in the head");
    };
    assert_eq!(
        read(&video[usize::try_from(at).unwrap()..]),
        VideoHead::Size(SIZE)
    );
}

#[test]
fn what_shows_no_frames_has_no_size() {
    let empty = atom(b"stts", &words(&[0, 0]));
    for part in [
        description(&empty),
        description(&[]),
        atom(b"moov", &[]),
        b"\0\0\0\x04moov".to_vec(),
    ] {
        assert_eq!(read(&part), VideoHead::Unknown);
    }
    assert_eq!(read(&[]), VideoHead::Beyond(0));
}

proptest! {
    #[test]
    fn no_bytes_panic(
        keep in 0..600_usize, flips in prop::collection::vec((0..600_usize, any::<u8>()), 0..8),
    ) {
        let mut bytes = description(&times());
        bytes.truncate(keep);
        for (at, byte) in flips {
            if let Some(old) = bytes.get_mut(at) {
                *old = byte;
            }
        }
        read(&bytes);
    }
}
