"""Reading /metrics, whatever the version of vLLM that wrote it."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qwen_tui.server.metrics import Histogram, MetricsSample, Quantile, parse_metrics

#: As vLLM 0.24 and 0.32 write it, shortened; two engines.
NEW = """\
# HELP vllm:num_requests_running Number of requests in model execution batches.
# TYPE vllm:num_requests_running gauge
vllm:num_requests_running{engine="0",model_name="Qwen {2}"} 3.0
vllm:num_requests_running{engine="1",model_name="Qwen {2}"} 2.0
vllm:num_requests_waiting{engine="0",model_name="m"} 7.0
vllm:num_requests_waiting_by_reason{engine="0",model_name="m",reason="capacity"} 7.0
vllm:kv_cache_usage_perc{engine="0",model_name="m"} 0.5
vllm:kv_cache_usage_perc{engine="1",model_name="m"} 0.25
vllm:prefix_cache_queries_total{engine="0",model_name="m"} 108564.0
vllm:prefix_cache_queries_created{engine="0",model_name="m"} 1.795364737834582e+09
vllm:prefix_cache_hits_total{engine="0",model_name="m"} 22032.0
vllm:external_prefix_cache_hits_total{engine="0",model_name="m"} 5.0
vllm:num_preemptions_total{engine="0",model_name="m"} 4.0
vllm:prompt_tokens_total{engine="0",model_name="m"} 1.08564e+05
vllm:prompt_tokens_by_source_total{engine="0",model_name="m",source="local_compute"} 86532.0
vllm:generation_tokens_total{engine="0",model_name="m"} 100.0
vllm:generation_tokens_total{engine="1",model_name="m"} 67.0
vllm:request_success_total{engine="0",finished_reason="stop",model_name="m"} 2.0
vllm:request_success_total{engine="1",finished_reason="stop",model_name="m"} 3.0
vllm:request_success_total{engine="0",finished_reason="length",model_name="m"} 9.0
vllm:time_to_first_token_seconds_bucket{engine="0",le="0.1",model_name="m"} 1.0
vllm:time_to_first_token_seconds_bucket{engine="0",le="0.5",model_name="m"} 3.0
vllm:time_to_first_token_seconds_bucket{engine="0",le="+Inf",model_name="m"} 4.0
vllm:time_to_first_token_seconds_bucket{engine="1",le="0.1",model_name="m"} 1.0
vllm:time_to_first_token_seconds_bucket{engine="1",le="0.5",model_name="m"} 1.0
vllm:time_to_first_token_seconds_bucket{engine="1",le="+Inf",model_name="m"} 1.0
vllm:time_to_first_token_seconds_count{engine="0",model_name="m"} 4.0
vllm:time_to_first_token_seconds_sum{engine="0",model_name="m"} 2.5
vllm:time_to_first_token_seconds_sum{engine="1",model_name="m"} 0.05
vllm:inter_token_latency_seconds_bucket{engine="0",le="0.01",model_name="m"} 5.0
vllm:inter_token_latency_seconds_bucket{engine="0",le="+Inf",model_name="m"} 5.0
vllm:request_time_per_output_token_seconds_bucket{engine="0",le="0.01",model_name="m"} 6.0
vllm:request_time_per_output_token_seconds_bucket{engine="0",le="+Inf",model_name="m"} 6.0
vllm:cache_config_info{block_size="16",engine="0",kv_cache_size_tokens="46592",num_gpu_blocks="364"} 1.0
process_start_time_seconds 1.79536467646e+09
"""

#: As vLLM 0.4 to 0.8 write it, shortened.
OLD = """\
vllm:cache_config_info{block_size="16",cache_dtype="auto",gpu_memory_utilization="0.9",num_gpu_blocks="2048"} 1.0
vllm:num_requests_running{model_name="facebook/opt-125m"} 1.0
vllm:num_requests_swapped{model_name="facebook/opt-125m"} 0.0
vllm:num_requests_waiting{model_name="facebook/opt-125m"} 2.0
vllm:gpu_cache_usage_perc{model_name="facebook/opt-125m"} 0.125
vllm:cpu_cache_usage_perc{model_name="facebook/opt-125m"} 0.0
vllm:gpu_prefix_cache_hit_rate{model_name="facebook/opt-125m"} 0.75
vllm:prompt_tokens_total{model_name="facebook/opt-125m"} 8.0
vllm:generation_tokens_total{model_name="facebook/opt-125m"} 27.0
vllm:time_per_output_token_seconds_bucket{le="0.05",model_name="facebook/opt-125m"} 10.0
vllm:time_per_output_token_seconds_bucket{le="+Inf",model_name="facebook/opt-125m"} 10.0
vllm:time_per_output_token_seconds_sum{model_name="facebook/opt-125m"} 0.2
vllm:avg_generation_throughput_toks_per_s{model_name="facebook/opt-125m"} 5.0
"""


def test_the_names_of_today() -> None:
    sample = parse_metrics(NEW)
    assert (sample.running, sample.waiting, sample.kv_usage, sample.kv_tokens) == (5, 7, 0.375, 46592)
    assert (sample.prompt_tokens, sample.generation_tokens, sample.preemptions) == (108564, 167, 4)
    assert (sample.prefix_queries, sample.prefix_hits) == (108564, 22032)
    assert sample.finished == {"stop": 5, "length": 9}
    assert sample.ttft == Histogram((0.1, 0.5, math.inf), (2.0, 4.0, 5.0), 2.55)
    assert sample.itl is not None
    assert sample.itl.count == 5
    assert sample.tpot is not None
    assert sample.tpot.count == 6
    assert sample.e2e is None
    assert sample.started == 1795364676.46


def test_the_names_of_earlier_versions() -> None:
    sample = parse_metrics(OLD)
    assert (sample.running, sample.waiting, sample.kv_usage, sample.kv_tokens) == (1, 2, 0.125, 32768)
    assert (sample.prompt_tokens, sample.generation_tokens, sample.prefix_hit_rate) == (8, 27, 0.75)
    assert sample.itl == Histogram((0.05, math.inf), (10.0, 10.0), 0.2)
    assert sample.tpot is None
    assert sample.started is None


def test_a_version_that_gives_both_names_is_not_counted_twice() -> None:
    both = NEW + 'vllm:gpu_cache_usage_perc{engine="0"} 0.9\n' + OLD.splitlines()[9] + "\n"
    sample = parse_metrics(both)
    assert sample.kv_usage == 0.375
    assert sample.itl is not None
    assert sample.itl.count == 5


@pytest.mark.parametrize(
    "text",
    [
        "",
        "<html>404</html>",
        "vllm:num_requests_running",
        "vllm:num_requests_running{",
        "vllm:num_requests_running{engine=\"0\"}",
        "vllm:num_requests_running NaN",
        "vllm:num_requests_running{a=\"b\"} +Inf",
        "vllm:time_to_first_token_seconds_bucket 3",
        "vllm:time_to_first_token_seconds_bucket{le=\"x\"} 3",
        "vllm:cache_config_info{num_gpu_blocks=\"None\",block_size=\"16\"} 1",
        "python_info 1",
    ],
)  # fmt: skip
def test_what_cannot_be_read_is_not_known(text: str) -> None:
    sample = parse_metrics(text)
    assert sample == MetricsSample()
    assert sample.is_empty


def test_a_time_stamp_and_a_line_without_labels_are_read() -> None:
    assert parse_metrics("vllm:num_requests_running 4 1395066363000").running == 4
    assert parse_metrics('vllm:num_requests_running{a="}"} 4 1395066363000\r\n').running == 4


def test_quantiles_are_linear_within_a_bucket() -> None:
    histogram = Histogram((0.1, 0.2, 0.4, math.inf), (0.0, 10.0, 20.0, 20.0), 4.5)
    assert histogram.quantile(0.5) == Quantile(0.2)
    assert histogram.quantile(0.25) == Quantile(pytest.approx(0.15))
    assert histogram.quantile(0.75) == Quantile(pytest.approx(0.3))
    assert histogram.mean == pytest.approx(0.225)


def test_a_quantile_beyond_the_last_bound_says_so() -> None:
    histogram = Histogram((0.1, 0.2, math.inf), (1.0, 2.0, 10.0), 50.0)
    assert histogram.quantile(0.95) == Quantile(0.2, is_above=True)
    assert histogram.quantile(0.1) == Quantile(pytest.approx(0.1))


def test_nothing_observed_has_no_quantile() -> None:
    assert Histogram((0.1, math.inf), (0.0, 0.0)).quantile(0.5) is None
    assert Histogram((), ()).quantile(0.5) is None
    assert Histogram((0.1, math.inf), (0.0, 0.0)).mean is None


def test_a_difference_never_descends_and_other_bounds_start_anew() -> None:
    now = Histogram((0.1, 0.2, math.inf), (5.0, 6.0, 9.0), 3.0)
    assert now.since(Histogram((0.1, 0.2, math.inf), (1.0, 5.0, 6.0), 2.0)).counts == (4.0, 4.0, 4.0)
    assert now.since(Histogram((0.1, math.inf), (1.0, 5.0))) == now
    assert now.since(None) == now


def test_a_restart_is_seen_in_the_start_time_and_in_counters_that_fell() -> None:
    sample = parse_metrics(NEW)
    assert not sample.is_of_another_run(sample)
    assert parse_metrics(NEW.replace("1.79536467646e+09", "1.79536469999e+09")).is_of_another_run(sample)
    assert parse_metrics(NEW.replace('engine="1",model_name="m"} 67.0', 'engine="1"} 1.0')).is_of_another_run(sample)
    assert parse_metrics(NEW.replace('"length",model_name="m"} 9.0', '"length"} 1.0')).is_of_another_run(sample)


@given(st.text(alphabet='vllm:num_requests_running{}="le+Inf, 01.e\n#', max_size=200))
def test_no_text_breaks_it(text: str) -> None:
    parse_metrics("vllm:" + text)
    parse_metrics(f"vllm:time_to_first_token_seconds_bucket{text}")


@given(
    st.lists(st.integers(0, 50), min_size=2, max_size=8).filter(any),
    st.floats(0.01, 1.0),
)
def test_a_quantile_lies_between_the_bounds_of_its_bucket(counts: list[int], share: float) -> None:
    bounds = (*(float(2**n) for n in range(len(counts) - 1)), math.inf)
    histogram = Histogram(bounds, tuple(float(sum(counts[: n + 1])) for n in range(len(counts))))
    quantile = histogram.quantile(share)
    assert quantile is not None
    rank = share * sum(counts)
    place = next(n for n, count in enumerate(histogram.counts) if count >= rank and counts[n])
    low = bounds[place - 1] if place else 0.0
    if quantile.is_above:
        assert math.isinf(bounds[place])
        assert quantile.value == low
    else:
        assert low <= quantile.value <= bounds[place] + 1e-9
