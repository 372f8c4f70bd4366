//! `comfy-relay workflows import`: makes a named workflow of a file.

use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, bail};
use serde_json::{Map, Value};
use tokio::fs;

use crate::cli::exit_code::WrongSetting;
use crate::cli::options::comfyui::ComfyuiOptions;
use crate::cli::output::{print_line, print_note, printable_line};
use crate::workflow::{HEADER, ImportedWorkflow, SavedEditor, draft_header};

/// The largest file that is read, in bytes: a picture of a hundred megapixels.
const MAX_FILE: u64 = 256 << 20;

/// How many problems are listed.
const MAX_LISTED: usize = 20;

/// Make a named workflow of a file: in API format, in the editor's format, or a PNG file that ComfyUI has saved
///
/// Writes NAME.json and a draft of its header, NAME.header.json, into the folder of workflows. A file in the editor's format does not
/// name the inputs of the values that it has: a ComfyUI server is asked for its node classes.
#[derive(Debug, clap::Args)]
pub(in crate::cli) struct WorkflowImportArgs {
    /// The file
    #[arg(value_name = "FILE")]
    file: PathBuf,

    /// What it is to be called; by default as the file
    #[arg(long, value_name = "NAME", value_parser = parse_name)]
    name: Option<String>,

    /// The folder of workflows
    #[arg(
        long,
        env = "WORKFLOWS",
        default_value = "comfy_workflows",
        value_name = "DIR"
    )]
    folder: PathBuf,

    /// Replace a graph of this name. Its header stays
    #[arg(long)]
    replace: bool,

    #[command(flatten)]
    comfyui: ComfyuiOptions,
}

pub(super) async fn run(args: WorkflowImportArgs) -> anyhow::Result<ExitCode> {
    let file = args.file.display().to_string();
    let name = match &args.name {
        Some(name) => name.clone(),
        None => own_name(&args.file)?,
    };
    let size = fs::metadata(&args.file).await;
    let size = size.with_context(|| format!("cannot read {file}"))?.len();
    if size > MAX_FILE {
        bail!("cannot import {file}: it has {size} bytes, and {MAX_FILE} are read at most");
    }
    let content = fs::read(&args.file).await;
    let content = content.with_context(|| format!("cannot read {file}"))?;
    let imported = ImportedWorkflow::read(&content);
    let graph = match imported.with_context(|| format!("cannot import {file}"))? {
        ImportedWorkflow::Api(graph) => graph,
        ImportedWorkflow::Editor(saved) => {
            let converted = convert(&saved, args.comfyui).await;
            converted.with_context(|| format!("cannot import {file}"))?
        }
    };
    fs::create_dir_all(&args.folder)
        .await
        .with_context(|| format!("cannot make the folder {}", args.folder.display()))?;
    let path = args.folder.join(format!("{name}.json"));
    write(&path, &Value::Object(graph.clone()), args.replace).await?;
    print_line(path.display());
    let header = args.folder.join(format!("{name}{HEADER}"));
    if fs::try_exists(&header).await.unwrap_or(false) {
        print_note(format_args!(
            "{} stays as it is; \"comfy-relay workflows check {}\" says whether it fits",
            header.display(),
            path.display()
        ));
    } else {
        write(&header, &draft_header(&graph, &name), false).await?;
        print_line(header.display());
        print_note("complete the header: what each parameter is for, and its limits");
    }
    Ok(ExitCode::SUCCESS)
}

/// The graph of what the editor has saved, by the node classes of a server.
async fn convert(
    saved: &SavedEditor,
    comfyui: ComfyuiOptions,
) -> anyhow::Result<Map<String, Value>> {
    let server = comfyui.client()?;
    let classes = server.rest().read_json("/object_info", None).await;
    let classes = classes.map(|classes| classes.filter(Value::is_object));
    let missing = || {
        format!(
            "this is the editor's format, which does not name the inputs of {} and others; only the node classes of ComfyUI do, and {} \
             does not answer with them (--comfyui-url, COMFYUI_URL): start it, or use \"Export (API)\" in the editor",
            saved.classes().first().map_or("its nodes", |class| *class),
            server.address()
        )
    };
    let classes = classes.with_context(missing)?.with_context(missing)?;
    saved.convert(&classes).map_err(|problems| {
        let listed = problems.iter().take(MAX_LISTED);
        let mut lines: Vec<String> = listed.map(|it| printable_line(&it.to_string())).collect();
        if problems.len() > MAX_LISTED {
            lines.push(format!("and {} more", problems.len() - MAX_LISTED));
        }
        anyhow::anyhow!("{}", lines.join("\n  "))
    })
}

/// Writes JSON to a file, a new one unless it may be replaced.
async fn write(path: &Path, value: &Value, may_replace: bool) -> anyhow::Result<()> {
    let text = serde_json::to_string_pretty(value)? + "\n";
    let written = async {
        let mut options = fs::OpenOptions::new();
        options.write(true).truncate(true);
        options.create(may_replace).create_new(!may_replace);
        let mut file = options.open(path).await?;
        tokio::io::AsyncWriteExt::write_all(&mut file, text.as_bytes()).await?;
        file.sync_all().await
    };
    written.await.map_err(|error: io::Error| {
        let hint = match error.kind() {
            io::ErrorKind::AlreadyExists => "; choose another --name, or give --replace",
            _ => "",
        };
        anyhow::anyhow!("cannot write {}: {error}{hint}", path.display())
    })
}

/// The name of a file, without its ending.
fn own_name(file: &Path) -> anyhow::Result<String> {
    let stem = file
        .file_stem()
        .and_then(|stem| stem.to_str())
        .unwrap_or_default();
    parse_name(stem).map_err(|why| WrongSetting(anyhow::anyhow!("--name is needed: {why}")).into())
}

/// A name under which a workflow can be submitted.
fn parse_name(text: &str) -> Result<String, String> {
    let leads_elsewhere = |c: char| c.is_control() || matches!(c, '/' | '\\');
    let is_plain = !text.is_empty() && !text.starts_with('.') && !text.contains(leads_elsewhere);
    let has_ending = text.ends_with(".json") || text.ends_with(".png") || text.ends_with(".header");
    let is_name = is_plain && !has_ending && text.len() + HEADER.len() <= 255;
    is_name.then(|| text.to_owned()).ok_or_else(|| {
        format!("{text:?} cannot be the name of a workflow; expected one such as \"my-flow\"")
    })
}
