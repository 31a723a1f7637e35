//! What each part of the language computes, as scripts for the runner.

use promql::testing::run_script;

fn check(name: &str, script: &str) {
    let mut out = Vec::new();
    let summary = run_script(name, script, &mut out).unwrap();
    assert_eq!(summary.failed, 0, "\n{}", String::from_utf8_lossy(&out));
    assert_eq!(summary.passed, script.matches("\neval").count(), "some cases did not run");
}

#[test]
fn selectors() {
    check(
        "selectors",
        "
load 1m
  up{job=\"a\",host=\"1\"} 0 1 2 3 4 5 6 7 8 9
  up{job=\"a\",host=\"2\"} 0 1 2 stale _ _ 6
  up{job=\"b\"} 5
  {\"name with space\",\"label.x\"=\"y\"} 1x9

eval instant at 2m up{job=\"a\"}
  up{job=\"a\",host=\"1\"} 2
  up{job=\"a\",host=\"2\"} 2

eval instant at 3m up{job=~\"a|c\",host!=\"1\"}

eval instant at 9m up{host=\"2\"} offset 3m
  up{job=\"a\",host=\"2\"} 6

eval instant at 1m up{host=\"1\"} offset -1m
  up{job=\"a\",host=\"1\"} 2

eval instant at 2m up{host=\"1\"} @ 240
  up{job=\"a\",host=\"1\"} 4

eval range from 0 to 4m step 2m up{host=\"1\"} @ end() - up{host=\"1\"} @ start()
  {job=\"a\",host=\"1\"} 4 4 4

# what is fixed is aggregated once, with the first value of the parameter
eval range from 0 to 2m step 1m topk(scalar(up{host=\"1\"}) + 1, up @ 120)
  up{job=\"b\"} 5 5 5

eval range from 0 to 6m step 1m up{job=\"b\"}
  up{job=\"b\"} 5 5 5 5 5 _ _

eval instant at 3m {\"name with space\"}
  {\"name with space\",\"label.x\"=\"y\"} 1

eval instant at 3m count_over_time(up{host=\"1\"}[2m])
  {job=\"a\",host=\"1\"} 2

eval instant at 3m max_over_time(up{host=\"1\"}[2m] offset 1m)
  {job=\"a\",host=\"1\"} 2

eval instant at 3m sum_over_time((up{host=\"1\"} * 2)[3m:1m])
  {job=\"a\",host=\"1\"} 12

eval instant at 3m count_over_time(up{host=\"1\"}[step() + 2m])
  {job=\"a\",host=\"1\"} 2
",
    );
}

/// Series that match are worked on whole: what they come to, and in which order, is as if it were step by step.
#[test]
fn pairs_of_series() {
    check(
        "pairs of series",
        "
load 1m
  many{job=\"a\",n=\"1\"} _ 1 2 3
  many{job=\"a\",n=\"2\"} 10 _ 20 30
  many{job=\"b\",n=\"1\"} 7 7 7 7
  one{job=\"a\",id=\"x\"} 2 2 _ 4
  one{job=\"b\",id=\"y\"} 1 0 NaN Inf

eval range from 0 to 3m step 1m many * on (job) group_left (id) last_over_time(one[30s])
  {job=\"a\",n=\"1\",id=\"x\"} _ 2 _ 12
  {job=\"a\",n=\"2\",id=\"x\"} 20 20 _ 120
  {job=\"b\",n=\"1\",id=\"y\"} 7 0 NaN Inf

eval range from 0 to 3m step 1m last_over_time(one[30s]) < on (job) group_right (id) many
  many{job=\"a\",n=\"2\",id=\"x\"} 2 2 _ 4
  many{job=\"b\",n=\"1\",id=\"y\"} 1 0 _ _

eval range from 0 to 3m step 1m many > bool on (job) group_left () last_over_time(one[30s])
  {job=\"a\",n=\"1\"} _ 0 _ 0
  {job=\"a\",n=\"2\"} 1 1 _ 1
  {job=\"b\",n=\"1\"} 1 1 0 0

eval range from 0 to 3m step 1m one{job=\"b\"} % ignoring (id, n) many{job=\"b\"}
  {job=\"b\"} 1 0 NaN NaN

# two series that come to one where they have no step in common
eval range from 0 to 1m step 1m last_over_time(many{n=\"1\",job=\"a\"}[30s]) * on (job) group_left (n) last_over_time(one[30s])
  {job=\"a\"} _ 2
",
    );
}

#[test]
fn operators() {
    check(
        "operators",
        "
load 1m
  left{a=\"1\",b=\"x\"} 10
  left{a=\"2\",b=\"x\"} 20
  right{a=\"1\"} 3
  right{a=\"3\"} 4
  one 1

eval instant at 0 1 + 2 * 3 ^ 2 % 5 - -1
  5

eval instant at 0 -2 ^ 2
  -4

eval instant at 0 2 ^ 3 ^ 2
  512

eval instant at 0 1 > bool 2
  0

eval instant at 0 1 / 0
  Inf

eval instant at 0 0 / 0
  NaN

eval instant at 0 -5 % 3
  -2

eval instant at 0 left / on (a) right
  {a=\"1\"} 3.3333333333333335

eval instant at 0 left * ignoring (b) right
  {a=\"1\"} 30

eval instant at 0 left * on () group_left () one
  {a=\"1\",b=\"x\"} 10
  {a=\"2\",b=\"x\"} 20

eval instant at 0 right + on (a) group_right (a) left
  expect fail regex: label \"a\" must not occur in ON and GROUP clause at once
",
    );
    check(
        "comparison",
        "
load 1m
  left{a=\"1\",b=\"x\"} 10
  left{a=\"2\",b=\"x\"} 20
  right{a=\"1\"} 3
  right{a=\"3\"} 4

eval instant at 0 left > 15
  left{a=\"2\",b=\"x\"} 20

eval instant at 0 left > bool 15
  {a=\"1\",b=\"x\"} 0
  {a=\"2\",b=\"x\"} 1

eval instant at 0 15 < left
  left{a=\"2\",b=\"x\"} 20

eval instant at 0 left and on (a) right
  left{a=\"1\",b=\"x\"} 10

eval instant at 0 left unless on (a) right
  left{a=\"2\",b=\"x\"} 20

eval instant at 0 right or on (a) left
  right{a=\"1\"} 3
  right{a=\"3\"} 4
  left{a=\"2\",b=\"x\"} 20

eval instant at 0 left + on (a) fill (0) right
  {a=\"1\"} 13
  {a=\"2\"} 20
  {a=\"3\"} 4

eval instant at 0 left + on (a) fill_right (1) right
  {a=\"1\"} 13
  {a=\"2\"} 21

eval instant at 0 left atan2 on (b) right
  expect fail regex: many-to-many matching not allowed

eval instant at 0 left{a=\"1\"} atan2 on (b) right{a=\"1\"}
",
    );
}

#[test]
fn operator_errors() {
    check(
        "operator errors",
        "
load 1m
  m{a=\"1\",b=\"1\"} 1
  m{a=\"1\",b=\"2\"} 2
  n{a=\"1\"} 3

eval instant at 0 m + on (a) n
  expect fail regex: multiple matches for labels: many-to-one matching must be explicit

eval instant at 0 n + on (a) m
  expect fail regex: found duplicate series for the match group \\{a=\"1\"\\} on the right hand-side of the operation

eval instant at 0 label_replace(m, \"b\", \"x\", \"\", \"\")
  expect fail regex: vector cannot contain metrics with the same labelset
",
    );
}

#[test]
fn aggregations() {
    check(
        "aggregations",
        "
load 1m
  m{g=\"a\",i=\"1\"} 1
  m{g=\"a\",i=\"2\"} 3
  m{g=\"b\",i=\"1\"} 10
  m{g=\"b\",i=\"2\"} NaN

eval instant at 0 sum by (g) (m)
  {g=\"a\"} 4
  {g=\"b\"} NaN

eval instant at 0 avg without (i) (m{g=\"a\"})
  {g=\"a\"} 2

eval instant at 0 count(m)
  {} 4

eval instant at 0 min(m)
  {} 1

eval instant at 0 max(m)
  {} 10

eval instant at 0 group by (i) (m)
  {i=\"1\"} 1
  {i=\"2\"} 1

eval instant at 0 stddev(m{g=\"a\"})
  {} 1

eval instant at 0 stdvar(m{g=\"a\"})
  {} 1

eval instant at 0 quantile(0.5, m{g=\"a\"})
  {} 2

eval instant at 0 topk(2, m)
  expect ordered
  m{g=\"b\",i=\"1\"} 10
  m{g=\"a\",i=\"2\"} 3

eval instant at 0 bottomk by (g) (1, m)
  m{g=\"a\",i=\"1\"} 1
  m{g=\"b\",i=\"1\"} 10

eval instant at 0 count_values by (g) (\"value\", m)
  {g=\"a\",value=\"1\"} 1
  {g=\"a\",value=\"3\"} 1
  {g=\"b\",value=\"10\"} 1
  {g=\"b\",value=\"NaN\"} 1

eval instant at 0 count(limitk(3, m))
  {} 3

eval instant at 0 limit_ratio(1, m) unless limit_ratio(0.4, m) unless limit_ratio(-0.6, m)

eval instant at 0 count(limit_ratio(0.4, m) or limit_ratio(-0.6, m))
  {} 4

eval instant at 0 sum(nothing)
",
    );
}

#[test]
fn functions_of_ranges() {
    check(
        "ranges",
        "
load 10s
  c_total 0+5x5 0+5x4
  g 3 1 4 1 5 9 2 6

eval instant at 50s increase(c_total[50s])
  {} 25

eval instant at 100s resets(c_total[100s])
  {} 1

eval instant at 50s rate(c_total[50s])
  {} 0.5

eval instant at 50s irate(c_total[50s])
  {} 0.5

eval instant at 70s changes(g[80s])
  {} 7

eval instant at 70s delta(g[80s])
  {} 3.4285714285714284

eval instant at 70s idelta(g[70s])
  {} 4

eval instant at 70s min_over_time(g[80s])
  {} 1

eval instant at 70s avg_over_time(g[80s])
  {} 3.875

eval instant at 70s quantile_over_time(0.5, g[80s])
  {} 3.5

eval instant at 70s mad_over_time(g[80s])
  {} 2

eval instant at 70s stdvar_over_time(g[80s])
  {} 6.609375

eval instant at 70s last_over_time(g[80s])
  g 6

eval instant at 70s first_over_time(g[80s])
  g 3

eval instant at 70s present_over_time(g[80s])
  {} 1

eval instant at 70s ts_of_max_over_time(g[80s])
  {} 50

eval instant at 70s absent_over_time(g[80s])

eval instant at 70s absent_over_time(h{x=\"y\"}[80s])
  {x=\"y\"} 1

eval instant at 40s deriv(c_total[50s])
  {} 0.5

eval instant at 40s predict_linear(c_total[50s], 10)
  {} 25
",
    );
}

#[test]
fn functions_of_instants() {
    check(
        "instants",
        "
load 1m
  v{x=\"foo-1\"} -1.5
  v{x=\"foo-2\"} 2.5

eval instant at 0 abs(v)
  {x=\"foo-1\"} 1.5
  {x=\"foo-2\"} 2.5

eval instant at 0 ceil(v)
  {x=\"foo-1\"} -1
  {x=\"foo-2\"} 3

eval instant at 0 round(v)
  {x=\"foo-1\"} -1
  {x=\"foo-2\"} 3

eval instant at 0 clamp(v, 0, 1)
  {x=\"foo-1\"} 0
  {x=\"foo-2\"} 1

eval instant at 0 sgn(v)
  {x=\"foo-1\"} -1
  {x=\"foo-2\"} 1

eval instant at 0 sqrt(v)
  {x=\"foo-1\"} NaN
  {x=\"foo-2\"} 1.5811388300841898

eval instant at 0 label_replace(v, \"n\", \"$1\", \"x\", \"foo-(.*)\")
  v{x=\"foo-1\",n=\"1\"} -1.5
  v{x=\"foo-2\",n=\"2\"} 2.5

eval instant at 0 label_join(v, \"n\", \"/\", \"x\", \"x\")
  v{x=\"foo-1\",n=\"foo-1/foo-1\"} -1.5
  v{x=\"foo-2\",n=\"foo-2/foo-2\"} 2.5

eval instant at 0 sort(v)
  expect ordered
  v{x=\"foo-1\"} -1.5
  v{x=\"foo-2\"} 2.5

eval instant at 0 sort_by_label_desc(v, \"x\")
  expect ordered
  v{x=\"foo-2\"} 2.5
  v{x=\"foo-1\"} -1.5

eval instant at 0 absent(nothing{a=\"b\"})
  {a=\"b\"} 1

eval instant at 0 scalar(v{x=\"foo-1\"})
  -1.5

eval instant at 0 scalar(v)
  NaN

eval instant at 1m timestamp(v)
  {x=\"foo-1\"} 0
  {x=\"foo-2\"} 0

eval instant at 1m time()
  60

eval instant at 0 year(vector(1136239445))
  {} 2006

eval instant at 0 days_in_month(vector(1454284800))
  {} 29

eval instant at 0 pi()
  3.141592653589793
",
    );
}

#[test]
fn histograms() {
    check("histograms", "
load 1m
  h {{schema:0 count:10 sum:20 z_bucket:2 z_bucket_w:0.001 buckets:[4 4]}}+{{schema:0 count:10 sum:20 z_bucket:2 z_bucket_w:0.001 buckets:[4 4]}}x5
  fine {{schema:1 count:4 sum:5 buckets:[1 1 1 1]}}
  custom{x=\"1\"} {{schema:-53 count:5 sum:9 custom_values:[1 2 4] buckets:[1 1 2 1]}}
  custom{x=\"2\"} {{schema:-53 count:3 sum:4 custom_values:[1 4] buckets:[1 2]}}
  classic_bucket{le=\"1\"} 5
  classic_bucket{le=\"2\"} 9
  classic_bucket{le=\"+Inf\"} 10

eval instant at 0 h + h
  {} {{schema:0 count:20 sum:40 z_bucket:4 z_bucket_w:0.001 buckets:[8 8]}}

eval instant at 0 h * 0.5
  {} {{schema:0 count:5 sum:10 z_bucket:1 z_bucket_w:0.001 buckets:[2 2]}}

eval instant at 0 -h
  {} {{schema:0 count:-10 sum:-20 z_bucket:-2 z_bucket_w:0.001 buckets:[-4 -4] counter_reset_hint:gauge}}

eval instant at 0 h + on () fine
  {} {{schema:0 count:14 sum:25 z_bucket:2 z_bucket_w:0.001 buckets:[5 6 1]}}

eval instant at 0 sum(custom)
  expect info regex: mismatched custom buckets
  {} {{schema:-53 count:8 sum:13 custom_values:[1 4] buckets:[2 5 1]}}

eval instant at 0 histogram_count(h)
  {} 10

eval instant at 0 histogram_avg(h)
  {} 2

eval instant at 2m increase(h[2m])
  {} {{schema:0 count:20 sum:40 z_bucket:4 z_bucket_w:0.001 buckets:[8 8] counter_reset_hint:gauge}}

eval instant at 0 histogram_quantile(0.5, custom{x=\"1\"})
  {x=\"1\"} 2.5

eval instant at 0 histogram_fraction(0, 1, custom{x=\"1\"})
  {x=\"1\"} 0.2

eval instant at 0 histogram_quantile(0.5, classic_bucket)
  {} 1

eval instant at 0 histogram_quantile(0.7, classic_bucket)
  {} 1.5

eval instant at 0 h == h
  h {{schema:0 count:10 sum:20 z_bucket:2 z_bucket_w:0.001 buckets:[4 4]}}

eval instant at 0 h > h
  expect info regex: incompatible sample types encountered for binary operator

eval instant at 0 min(h)
  expect info regex: ignored histogram in min aggregation
");
}

#[test]
fn information_labels() {
    check(
        "info",
        "
load 1m
  requests{instance=\"a\",job=\"j\"} 1
  target_info{instance=\"a\",job=\"j\",version=\"7\",zone=\"z\"} 1

eval instant at 0 info(requests)
  requests{instance=\"a\",job=\"j\",version=\"7\",zone=\"z\"} 1

eval instant at 0 info(requests, {version=~\".+\"})
  requests{instance=\"a\",job=\"j\",version=\"7\"} 1
",
    );
}

#[test]
fn binary_operators_tell_of_the_last_pair_without_a_result() {
    check(
        "last pair",
        "
load 1m
  left{id=\"a\"} {{schema:0 count:1 sum:1 buckets:[1]}}
  left{id=\"b\"} 1
  right{id=\"a\"} 1
  right{id=\"b\"} {{schema:0 count:1 sum:1 buckets:[1]}}

eval instant at 0 left + right
  expect info msg: PromQL info: incompatible sample types encountered for binary operator \"+\": float + histogram (1:1)

eval instant at 0 left % on (id) group_right right
  expect info msg: PromQL info: incompatible sample types encountered for binary operator \"%\": float % histogram (1:1)

eval instant at 0 right > 0
  expect info msg: PromQL info: incompatible sample types encountered for binary operator \">\": histogram > float (1:1)
  {__name__=\"right\",id=\"a\"} 1
",
    );
}

#[test]
fn annotations_point_into_parentheses_and_to_the_last_place() {
    check(
        "positions",
        "
load 1m
  a 1
  nans {{schema:0 count:3 sum:NaN buckets:[2]}}

eval instant at 0 quantile(2, a) + quantile(2, a)
  expect warn msg: PromQL warning: quantile value should be between 0 and 1, got 2 (1:27)
  {} Inf

eval instant at 0 histogram_fraction(2, 1, nans)
  expect no_info
  {} 0

eval instant at 0 quantile((1.5), a)
  expect warn msg: PromQL warning: quantile value should be between 0 and 1, got 1.5 (1:11)
  {} Inf
",
    );
}

#[test]
fn errors_are_those_of_the_first_step_and_of_calls_with_samples() {
    check(
        "errors",
        "
load 1m
  many{job=\"a\",id=\"1\"} 1 1
  many{job=\"a\",id=\"2\"} 1 1
  one{job=\"a\",id=\"1\"} 1 1
  one{job=\"b\",id=\"1\"} 1 1
  one{job=\"b\",id=\"2\"} _ 1

eval instant at 1m many * on (job) group_left (id) one
  expect fail regex: found duplicate series for the match group \\{job=\"b\"\\}

eval range from 0 to 1m step 1m many * on (job) group_left (id) one
  expect fail msg: multiple matches for labels: grouping labels must ensure unique matches

eval instant at 0 double_exponential_smoothing(nothing[5m], 2, 0.5)

eval instant at 1m double_exponential_smoothing(one[5m], 0.5, Inf)
  expect fail msg: invalid trend factor. Expected: 0 < tf < 1, got: +Inf

eval instant at 1m double_exponential_smoothing(one[5m], 2, 0.5)
  expect fail msg: invalid smoothing factor. Expected: 0 < sf < 1, got: 2.000000
",
    );
}

#[test]
fn quantiles_of_histograms_whose_sum_is_no_number() {
    check(
        "quantiles",
        "
load 1m
  nans {{schema:0 count:6 sum:NaN offset:1 buckets:[2 2]}}
  opposite {{schema:0 count:4 sum:NaN offset:1 buckets:[2 2]}}
  plain {{schema:0 count:4 sum:9 offset:1 buckets:[2 2]}}

eval instant at 0 histogram_quantile((0.25), nans)
  expect info msg: PromQL info: input to histogram_quantile has NaN observations, result is skewed higher for metric name \"nans\" (1:28)
  {} 3.3635856610148585

eval instant at 0 absent(nothing{a!=\"b\",a=\"c\",d=\"e\"})
  {d=\"e\"} 1

eval instant at 0 histogram_quantile(0.25, (opposite))
  expect no_info
  {} 2.82842712474619

eval instant at 0 histogram_quantile(1, -plain)
  {} 2
",
    );
}
