//! Estimates that are added up or age.

use super::*;

#[test]
fn a_waiting_job_ends_after_all_jobs_before_it() {
    let one = |seconds: f64| Estimate {
        fraction: 0.0,
        remaining: Some(seconds),
        low: Some(seconds - 3.0),
        high: Some(seconds + 4.0),
        starts_in: None,
    };
    let estimate = Estimate::queued([one(10.0), one(20.0)], one(5.0));
    assert_eq!(estimate.remaining, Some(35.0));
    assert!(estimate.low.unwrap() > 26.0 && estimate.high.unwrap() < 47.0);
    assert_eq!(
        Estimate::queued([Estimate::default()], one(5.0)).remaining,
        None
    );
}

#[test]
fn the_remaining_time_falls_with_time_and_never_below_zero() {
    let now = Estimate {
        fraction: 0.2,
        remaining: Some(10.0),
        low: Some(4.0),
        high: Some(15.0),
        starts_in: Some(5.0),
    };
    let then = now.later(6.0);
    assert_eq!(
        (then.low, then.remaining, then.high),
        (Some(0.0), Some(4.0), Some(9.0))
    );
    assert_eq!(now.later(60.0).high, Some(0.0));
    assert_eq!(
        (now.later(3.0).starts_in, now.later(9.0).starts_in),
        (Some(2.0), Some(0.0))
    );
    assert_eq!(Estimate::default().later(1.0), Estimate::default());
}

#[test]
fn a_prompt_is_known_where_all_its_nodes_have_run() {
    let model = trained(1);
    let plan = graph(20, 512);
    let of = |backend, plan: &Plan| Familiarity::of_prompt(backend, plan, &[], &model);
    assert_eq!(of("b", &plan), Familiarity::Known);
    assert_eq!(of("elsewhere", &plan), Familiarity::FirstTime);
    assert_eq!(of("b", &graph(30, 512)), Familiarity::FirstTime);
    assert_eq!(of("b", &Plan::default()), Familiarity::NoGraph);
    let sampler = ["3".to_owned(), "8".to_owned(), "9".to_owned()];
    let without_sampler = Familiarity::of_prompt("b", &graph(30, 512), &sampler, &model);
    assert_eq!(without_sampler, Familiarity::Known);
}
