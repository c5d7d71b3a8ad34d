use std::time::Duration;

use proptest::prelude::*;

use super::*;

fn page(write: impl FnOnce(&mut Page)) -> String {
    let mut page = Page::default();
    write(&mut page);
    page.into_text()
}

#[test]
fn a_family_is_written_as_the_format_has_it() {
    let text = page(|page| {
        page.counter("lanmesh_a_total", "What\\is\ncounted.").sample(&[("to", "x\"\\\n"), ("by", "y")], 7);
        page.gauge("lanmesh_b", "Nothing of it.");
    });
    let expected = "# HELP lanmesh_a_total What\\\\is\\ncounted.\n# TYPE lanmesh_a_total counter\n\
                    lanmesh_a_total{to=\"x\\\"\\\\\\n\",by=\"y\"} 7\n# HELP lanmesh_b Nothing of it.\n# TYPE lanmesh_b gauge\n";
    assert_eq!(text, expected);
}

#[test]
fn the_buckets_of_a_histogram_add_up() {
    let histogram = Histogram::default();
    for (micros, count) in [(50, 3), (100, 1), (700, 2), (9_000_000, 1)] {
        histogram.note(Duration::from_micros(micros), count);
    }
    let text = page(|page| page.histogram("lanmesh_t_seconds", "How long.", &histogram));
    let samples = read(&text).unwrap();
    let bucket = |le: &str| {
        let found = samples.iter().find(|sample| sample.labels.get("le").is_some_and(|found| found == le));
        found.map(|sample| sample.value)
    };
    assert_eq!([bucket("0.0001"), bucket("0.0005"), bucket("0.001")], [Some(4.0), Some(4.0), Some(6.0)]);
    assert_eq!([bucket("5"), bucket("+Inf")], [Some(6.0), Some(7.0)]);
    let of = |suffix: &str| samples.iter().find(|sample| sample.name.ends_with(suffix)).map(|s| s.value);
    assert_eq!(of("_count"), Some(7.0));
    assert!((of("_sum").unwrap() - 9.001_65).abs() < 1e-9);
}

#[test]
fn what_is_no_metric_is_told_with_its_line() {
    for broken in ["lanmesh_a", "lanmesh_a{", "lanmesh_a{x=\"1} 2", "lanmesh_a{x=\"1\"", "lanmesh_a one"] {
        let error = read(&format!("# HELP\n\n{broken}\n")).unwrap_err();
        assert_eq!((error.line, &*error.text), (3, broken));
    }
}

proptest! {
    #[test]
    fn what_is_written_reads_back(values in prop::collection::vec((".{0,20}", any::<u64>()), 0..8)) {
        let text = page(|page| {
            let mut family = page.counter("lanmesh_a_total", "Something.");
            for (label, value) in &values {
                family.sample(&[("label", label), ("other", "}\" ")], value);
            }
        });
        let found: Vec<_> = read(&text).unwrap().into_iter().map(|s| (s.labels["label"].clone(), s.value)).collect();
        let written: Vec<_> = values.into_iter().map(|(label, value)| (label, value as f64)).collect();
        prop_assert_eq!(found, written);
    }
}

#[test]
fn a_sum_never_falls_whatever_becomes_of_its_counters() {
    let mut odometer = Odometer::default();
    odometer.take([(1, "a", 5), (2, "a", 7), (3, "b", 1)]);
    assert_eq!(odometer.sums()["a"], 12);
    // One went, one began anew.
    odometer.take([(1, "a", 2), (3, "b", 1)]);
    assert_eq!((odometer.sums()["a"], odometer.sums()["b"]), (14, 1));
    odometer.take([(1, "a", 2), (2, "a", 3)]);
    assert_eq!(odometer.sums()["a"], 17);
    odometer.retain(|shown| *shown == "a");
    assert_eq!(odometer.sums().len(), 1);
}
