//! The bytes of a subscriber, plain or compressed: the same messages are read however they are cut, and
//! nothing grows beyond its bound.
#![no_main]

use comfy_relay::session::fuzzing::{MAX_MESSAGE, ScriptedClient, read, translate};
use comfy_relay_fuzz::client::Case;
use libfuzzer_sys::fuzz_target;

/// The bound for the translation alone: short cases reach it.
const SHORT: usize = 1_000;

/// The longest header of a frame.
const HEAD: usize = 14;

/// How much is read at a time.
const CHUNK: usize = 1 << 10;

fuzz_target!(|data: &[u8]| {
    let Some(case) = Case::read(data, MAX_MESSAGE) else {
        return;
    };
    let (early, pieces) = case.pieces();
    let whole = ScriptedClient {
        early: &[],
        pieces: &[&case.bytes],
        deflates: case.deflates,
        is_slow: false,
    };
    let cut = ScriptedClient {
        early,
        pieces: &pieces,
        is_slow: case.is_slow,
        ..whole
    };

    let transcript = read(whole);
    assert_eq!(
        transcript,
        read(cut),
        "the result depends on how the bytes are cut"
    );
    assert!(
        transcript
            .messages
            .iter()
            .all(|message| message.len() <= MAX_MESSAGE)
    );
    assert!(
        transcript.messages.len() >= case.messages.len(),
        "{transcript:?}"
    );
    for (read, sent) in transcript.messages.iter().zip(&case.messages) {
        assert_eq!(read.clone().into_data(), sent.as_slice());
    }

    if !case.deflates {
        return;
    }
    let translated = translate(whole, SHORT);
    let translated_cut = translate(cut, SHORT);
    assert_eq!(translated.bytes, translated_cut.bytes);
    assert_eq!(translated.error, translated_cut.error);
    // One frame; or, if the bytes cannot be parsed, all that have arrived, which are few.
    let most = HEAD + SHORT + 1 + CHUNK;
    assert!(translated.largest <= most, "{}", translated.largest);
    assert!(translated_cut.largest <= most + early.len());
    if let Some((compressed, frames)) = case.built {
        let most = case.bytes.len() + compressed * (SHORT + 1) + frames * HEAD;
        assert!(translated.bytes.len() <= most, "{}", translated.bytes.len());
    }
});
