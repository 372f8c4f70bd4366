//! Named workflows on the command line.

use serde_json::{Value, json};

use super::{header, relay, relay_with, steps, write};
use crate::support::program::Program;

/// The exit code, the output and the errors of a command.
async fn run(arguments: &[&str]) -> (Option<i32>, String, String) {
    let output = Program::run(arguments, &[]).await;
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (
        output.status.code(),
        text(output.stdout),
        text(output.stderr),
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn the_header_of_a_workflow_makes_flags() {
    let (comfyui, relay) = relay().await;
    let url = relay.url();
    let submit = async |more: &[&str]| {
        let all = [&["submit", "txt2img", "--relay", &url], more].concat();
        run(&all).await
    };
    let flags = [
        "--prompt",
        "a cat, 7",
        "--steps=30",
        "--cfg",
        "4.5",
        "--seed",
        "7",
        "-p",
        "height=640",
        "-p",
        "9.filename_prefix=cats",
    ];
    let (code, _, errors) = submit(&flags).await;
    assert_eq!(code, Some(0), "{errors}");
    let prompt = &comfyui.posted()["prompt"];
    let input = |node: &str, input: &str| prompt[node]["inputs"][input].clone();
    assert_eq!(input("6", "text"), "a cat, 7");
    assert_eq!(
        [input("3", "steps"), input("3", "cfg"), input("3", "seed")],
        [json!(30), json!(4.5), json!(7)]
    );
    assert_eq!(
        (input("5", "height"), input("9", "filename_prefix")),
        (json!(640), json!("cats"))
    );
    // Everything that is wrong, as the relay says it.
    let (code, _, errors) = submit(&["--steps", "many", "--cfg", "99", "--width", "65"]).await;
    assert_eq!(code, Some(1));
    for text in [
        "\"steps\": expected a whole number, got a text",
        "99 is more than 30",
        "65 is not a multiple of 8",
    ] {
        assert!(errors.contains(text), "{errors}");
    }
    // A wrong command line.
    for (flags, text) in [
        (
            &["--colour", "red"][..],
            "unexpected argument '--colour' found; the parameters of the workflow are --prompt, --negative",
        ),
        (&["--steps"], "a value is required for '--steps'"),
    ] {
        let (code, _, errors) = submit(flags).await;
        assert_eq!(code, Some(64), "{errors}");
        assert!(errors.contains(text), "{errors}");
    }
    assert_eq!(comfyui.calls("POST /prompt"), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_help_of_a_workflow_shows_its_flags() {
    let (_comfyui, relay) = relay().await;
    let url = relay.url();
    for arguments in [
        ["submit", "lora-stack", "--help", "--relay", &url],
        ["submit", "--relay", &url, "lora-stack", "-h"],
    ] {
        let (code, help, errors) = run(&arguments).await;
        assert_eq!(code, Some(0), "{errors}");
        let flat = help.split_whitespace().collect::<Vec<_>>().join(" ");
        for text in [
            "LoRA stack (SD 1.5). A picture from a prompt, with one to three LoRAs",
            "Parameters of lora-stack",
            "--lora-1 <TEXT>",
            "The first LoRA; required",
            "--prompt <TEXT>",
            "1 to 150; [default: 20]",
            "[default: \"random\"]",
            "--watch",
        ] {
            assert!(flat.contains(text), "{text}: {help}");
        }
    }
    // Without a workflow, that of the program alone.
    let (code, help, _) = run(&["submit", "--help"]).await;
    assert_eq!(code, Some(0));
    assert!(
        help.contains("comfy-relay submit NAME --help") && !help.contains("--prompt"),
        "{help}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_with_a_header_beside_it_takes_the_same_flags() {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), "draw", &header(&steps()));
    // The relay has another folder.
    let (comfyui, relay) = relay().await;
    let file = folder.path().join("draw.json");
    let file = file.to_str().unwrap();
    let url = relay.url();
    let submit =
        async |more: &[&str]| run(&[&["submit", file, "--relay", &url], more].concat()).await;
    let (code, _, errors) = submit(&["--steps", "12"]).await;
    assert_eq!(code, Some(0), "{errors}");
    assert_eq!(comfyui.posted()["prompt"]["1"]["inputs"]["steps"], 12);
    let (code, _, errors) = submit(&["--steps", "51"]).await;
    assert_eq!(code, Some(1), "{errors}");
    assert!(errors.contains("51 is more than 50"), "{errors}");
    // Each job of a file of parameters, too.
    let jobs = folder.path().join("jobs");
    std::fs::write(&jobs, "{\"steps\": 3}\n{\"steps\": 4}\n").unwrap();
    let (code, out, errors) = submit(&["--params-file", jobs.to_str().unwrap()]).await;
    assert_eq!((code, out.lines().count()), (Some(0), 2), "{errors}");
    // A file without one has no flags.
    std::fs::remove_file(folder.path().join("draw.header.json")).unwrap();
    for flags in [["--steps", "12"], ["--seed", "7"]] {
        let (code, _, errors) = submit(&flags).await;
        assert_eq!(code, Some(64), "{errors}");
        assert!(
            errors.contains("the workflow has no parameters of its own"),
            "{errors}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn workflows_are_listed_shown_and_checked() {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), "draw", &header(&steps()));
    let mut wrong = steps();
    wrong["maximum"] = json!(7);
    wrong["colour"] = json!("red");
    write(folder.path(), "wrong", &header(&wrong));
    let (_comfyui, relay) = relay_with(folder.path()).await;
    let url = relay.url();
    let command =
        async |words: &[&str]| run(&[&["workflows"], words, &["--relay", &url]].concat()).await;
    let (code, out, errors) = command(&["list"]).await;
    assert_eq!(code, Some(0), "{errors}");
    assert!(out.contains("draw  Draw   steps"), "{out}");
    assert!(
        errors.contains("wrong cannot be submitted: ")
            && errors.contains("parameters.steps.default"),
        "{errors}"
    );
    let (_, out, _) = command(&["show", "draw"]).await;
    assert!(
        out.contains("steps      integer  20       1 to 50"),
        "{out}"
    );
    let (_, out, _) = command(&["show", "draw", "--json"]).await;
    let shown: Value = serde_json::from_str(&out).unwrap();
    assert_eq!(shown["workflow"]["1"]["class_type"], "Draw");
    // All mistakes of a header: of the relay's workflow, and of a file.
    let file = folder.path().join("wrong.json");
    for workflow in ["wrong", file.to_str().unwrap()] {
        let (code, out, errors) = command(&["check", workflow]).await;
        assert_eq!(code, Some(1), "{errors}");
        for place in ["parameters.steps.colour", "parameters.steps.default"] {
            assert!(out.contains(place), "{out}");
        }
    }
    // By its old name, the command is the same.
    let (code, _, errors) = run(&[
        "workflow", "check", "draw", "-p", "steps=51", "--relay", &url,
    ])
    .await;
    assert_eq!(code, Some(1));
    assert!(errors.contains("51 is more than 50"), "{errors}");
}
