//! How long a page of the list of jobs takes in a database with many, for each filter and each pair of filters, at the
//! head of the list and deep in it: `cargo bench --bench lists`. `-- PAIR` measures those alone whose name contains PAIR.
//!
//! SQLite and PostgreSQL each run in a temporary folder.
#![expect(
    clippy::unwrap_used,
    reason = "a benchmark that cannot continue has failed"
)]

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use comfy_relay::job::{JobId, Progress, Status, Tags};
use comfy_relay::store::{Cursor, JobFilter, JobRecord, LeaseOwner, Store};
use jiff::{SignedDuration, Timestamp};

#[path = "../tests/it/support/database.rs"]
#[expect(
    dead_code,
    unused_macros,
    unused_imports,
    reason = "the tests use more of it than the benchmark"
)]
mod database;
#[path = "../tests/it/support/postgres.rs"]
#[expect(dead_code, reason = "what the tests do to servers is not done here")]
mod postgres;
#[path = "../tests/it/support/wait.rs"]
mod wait;

/// The jobs of the list, and how many are written together.
const JOBS: usize = 200_000;
const BATCH: usize = 1_000;

/// The jobs of a page, and how often each page is read. The fastest time counts: what else the machine does adds to the others.
const PAGE: usize = 50;
const ROUNDS: usize = 7;

/// After what share of the list a page is read, in percent.
const DEPTHS: [usize; 3] = [0, 50, 99];

/// How many pages are printed, the slowest, unless some are named.
const SHOWN: usize = 40;

const BACKENDS: usize = 20;
const WORKFLOWS: usize = 10;
const GROUP: usize = 100;

/// When the first job was registered, and how far two are apart.
const BEGIN: Timestamp = Timestamp::constant(1_764_547_200, 0);
const APART: SignedDuration = SignedDuration::from_secs(10);

/// A filter with its name. Those that begin alike are of one kind: no pair has both.
type Named = (&'static str, fn(&mut JobFilter));

const FILTERS: [Named; 18] = [
    ("status=completed", |it| {
        it.selection.statuses = vec![Status::Completed];
    }),
    ("status=failed", |it| {
        it.selection.statuses = vec![Status::Failed];
    }),
    ("status=cancelled", |it| {
        it.selection.statuses = vec![Status::Cancelled];
    }),
    ("status=queued", |it| {
        it.selection.statuses = vec![Status::Queued];
    }),
    ("backend=one", |it| {
        it.selection.backend = Some(backend(3));
    }),
    ("backend=rare", |it| {
        it.selection.backend = Some("rare".to_owned());
    }),
    ("workflow=one", |it| {
        it.selection.workflow = Some(workflow(4));
    }),
    ("workflow=rare", |it| {
        it.selection.workflow = Some("rare".to_owned());
    }),
    ("group=small", |it| {
        it.selection.group = Some("group-700".to_owned());
    }),
    ("group=large", |it| {
        it.selection.group = Some("large".to_owned());
    }),
    ("label=many", |it| label(it, "project", "one")),
    ("label=some", |it| label(it, "user", "user-7")),
    ("label=few", |it| label(it, "shot", "90003")),
    ("label=none", |it| label(it, "shot", "none")),
    ("q=often", |it| it.selection.text = Some("SER-7".to_owned())),
    ("q=never", |it| {
        it.selection.text = Some("nowhere".to_owned())
    }),
    ("since", |it| it.since = Some(registered_at(JOBS / 4))),
    ("until", |it| it.until = Some(registered_at(JOBS * 3 / 4))),
];

#[tokio::main]
async fn main() {
    // Cargo passes a flag of its own.
    let wanted = std::env::args().skip(1).find(|it| !it.starts_with("--"));
    let wanted = wanted.unwrap_or_default();
    measure("sqlite", &database::TestDatabase::sqlite().await, &wanted).await;
    measure(
        "postgres",
        &database::TestDatabase::postgres().await,
        &wanted,
    )
    .await;
}

async fn measure(name: &str, database: &database::TestDatabase, wanted: &str) {
    let store = Store::open(&database.config());
    store.migrate().await.unwrap();
    let began = Instant::now();
    for first in (0..JOBS).step_by(BATCH) {
        let records: Vec<JobRecord> = (first..first + BATCH).map(record).collect();
        store.upsert(&records).await.unwrap();
    }
    println!(
        "{name}: {JOBS} jobs in {:.1} s",
        began.elapsed().as_secs_f64()
    );
    if database.is_postgres() {
        // As autovacuum does soon after.
        database.execute("VACUUM ANALYZE comfy_relay.jobs").await;
    }
    let mut pages = Vec::new();
    for (name, filter) in filters().filter(|(name, _)| name.contains(wanted)) {
        for depth in DEPTHS {
            let (took, jobs) = measure_page(&store, &filter, depth).await;
            pages.push((took, jobs, format!("{name} @{depth} %")));
        }
    }
    pages.sort_by_key(|(took, ..)| std::cmp::Reverse(*took));
    let slow = pages.iter().filter(|(took, ..)| took.as_millis() >= 10);
    println!(
        "{name}: {} of {} pages take 10 ms or more",
        slow.count(),
        pages.len()
    );
    let middle = pages
        .get(pages.len() / 2)
        .map_or(0.0, |(took, ..)| millis(*took));
    println!("{name}: {middle:.2} ms in the median");
    let shown = if wanted.is_empty() {
        SHOWN
    } else {
        pages.len()
    };
    for (took, jobs, page) in pages.iter().take(shown) {
        println!("{name}: {:>8.2} ms {jobs:>4} jobs  {page}", millis(*took));
    }
}

fn millis(took: Duration) -> f64 {
    took.as_secs_f64() * 1e3
}

/// All filters alone, and all pairs of different kinds.
fn filters() -> impl Iterator<Item = (String, JobFilter)> {
    let kind = |name: &'static str| name.split('=').next();
    let alone = FILTERS.iter().map(|(name, set)| {
        let mut filter = JobFilter::default();
        set(&mut filter);
        ((*name).to_owned(), filter)
    });
    let pairs = FILTERS.iter().enumerate().flat_map(move |(at, first)| {
        let second = FILTERS[at + 1..].iter();
        let second = second.filter(move |second| kind(second.0) != kind(first.0));
        second.map(move |second| {
            let mut filter = JobFilter::default();
            first.1(&mut filter);
            second.1(&mut filter);
            (format!("{} {}", first.0, second.0), filter)
        })
    });
    let all = ("all".to_owned(), JobFilter::default());
    std::iter::once(all).chain(alone).chain(pairs)
}

/// How long the fastest read of a page takes, and how many jobs it has.
async fn measure_page(store: &Store, filter: &JobFilter, depth: usize) -> (Duration, usize) {
    let number = JOBS - JOBS * depth / 100;
    let filter = JobFilter {
        after: (depth > 0).then(|| Cursor {
            created_at: registered_at(number),
            job_id: id(number),
        }),
        ..filter.clone()
    };
    let mut fastest = Duration::MAX;
    let mut jobs = 0;
    for _ in 0..ROUNDS {
        let began = Instant::now();
        jobs = store.jobs(&filter, PAGE).await.unwrap().jobs.len();
        fastest = fastest.min(began.elapsed());
    }
    (fastest, jobs)
}

fn label(filter: &mut JobFilter, key: &str, text: &str) {
    let labels = &mut filter.selection.labels;
    labels.insert(key.to_owned(), text.to_owned());
}

fn backend(number: usize) -> String {
    format!("gpu-{number}.example:8188")
}

fn workflow(number: usize) -> String {
    format!("workflow-{number}")
}

/// An id as clients choose them at random, the same in each run.
fn id(number: usize) -> JobId {
    let mixed = (number as u128 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835);
    let text = uuid::Uuid::from_u128(mixed).to_string();
    JobId::parse(&text).expect("a valid id")
}

fn registered_at(number: usize) -> Timestamp {
    BEGIN + APART * i32::try_from(number).expect("a small number")
}

/// Some failed, few were cancelled, and the newest wait. No cancelled job is of the rare workflow or backend.
fn status(number: usize) -> Status {
    match number {
        number if number >= JOBS - 500 => Status::Queued,
        number if number % 50 == 1 => Status::Failed,
        number if number % 1_000 == 2 => Status::Cancelled,
        _ => Status::Completed,
    }
}

fn tags(number: usize) -> Tags {
    let mut labels = BTreeMap::new();
    if number % 5 < 3 {
        let mut add = |key: &str, text: String| labels.insert(key.to_owned(), text);
        add(
            "project",
            if number.is_multiple_of(2) {
                "one"
            } else {
                "two"
            }
            .to_owned(),
        );
        add("user", format!("user-{}", number % 199));
        add("shot", number.to_string());
    }
    let group = match number % 4 {
        0 => Some(format!("group-{}", number / GROUP)),
        1 => Some("large".to_owned()),
        _ => None,
    };
    let workflow = match number {
        number if number % 20_000 == 7 => Some("rare".to_owned()),
        number if number % 10 < 7 => Some(workflow(number / 7 % WORKFLOWS)),
        _ => None,
    };
    Tags {
        labels,
        group,
        workflow,
    }
}

fn record(number: usize) -> JobRecord {
    let status = status(number);
    let at = registered_at(number);
    let backend = match number {
        number if number % 10_000 == 3 => "rare".to_owned(),
        number => backend(number / 3 % BACKENDS),
    };
    JobRecord {
        progress: Progress {
            job_id: id(number),
            status,
            progress: if status == Status::Completed { 100 } else { 45 },
            estimated_remaining: None,
            estimated_low: None,
            estimated_high: None,
            estimated_completion: None,
            estimated_start: None,
            cancelling: None,
            waiting_for: None,
            attempt: None,
            message: String::new(),
            output_path: Some(format!("/outputs/2026/ComfyUI_{number:06}_.png")),
            error: None,
            timestamp: at,
            prompt_id: Some(id(number + JOBS).to_string()),
            seq: 1,
            node: None,
            nodes: None,
            queue_position: None,
            elapsed: None,
            outputs: Vec::new(),
            outputs_total: None,
            backend: Some(backend),
            tags: Arc::new(tags(number)),
        },
        deliveries: Vec::new(),
        created_at: at,
        started_at: Some(at),
        completed_at: status.is_final().then_some(at),
        error_code: None,
        message: None,
        learned_from: status.is_final().then_some("ws"),
        node_runs: Vec::new(),
        owner: Arc::new(LeaseOwner::default()),
        epoch: 1,
    }
}
