"""The verdicts of a check: absent or missing, invalid, stale by the clock the key follows."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qbot import limits
from qbot.clock import Timeline
from qbot.contract import keys
from qbot.contract.checking import Found, Looked, Status, Times, Verdict, check, judge, open_seconds
from qbot.contract.key import Key
from qbot.contract.names import UnknownKey, find, groups
from qbot.contract.payloads_channels import Stamp
from qbot.market.calendar import sessions_between

OPEN = datetime(2026, 9, 25, 15, 0, tzinfo=UTC)  # a Friday; the exchange shuts at 20:00
CLOSE = datetime(2026, 9, 25, 20, 0, tzinfo=UTC)
MONDAY = datetime(2026, 9, 28, 13, 30, tzinfo=UTC)
SESSIONS = sessions_between(OPEN - timedelta(days=14), OPEN + timedelta(days=14))
WALL_KEY, MARKET_KEY = keys.SYSTEM_HEALTH, keys.MARKET_DATA  # 90 s of the wall; 900 s of the open market
moments = st.integers(-11 * 86_400, 13 * 86_400).map(lambda s: OPEN + timedelta(seconds=s))


def times(wall: datetime) -> Times:
    return Times(wall, lambda at: at, SESSIONS)


def standing(key: Key[object], raw: str | None = None) -> Found:
    wire = (key.example if raw is None else raw).encode()
    return Found(key.reading(wire), wire, len(wire))


def stamp(at: datetime, found: Found, revision: int = 7) -> Stamp:
    return Stamp(revision=revision, time=at, sha1=found.sha1 or "absent")


def verdict(key: Key[object], written: datetime, now: datetime, raw: str | None = None) -> Verdict:
    found = standing(key, raw)
    return judge(key, "", Looked({key.name: found}, {key.name: stamp(written, found)}), times(now))


def test_a_key_of_the_wall_is_stale_one_moment_after_its_allowed_age() -> None:
    allowed = timedelta(seconds=WALL_KEY.max_age_s or 0)
    assert verdict(WALL_KEY, OPEN, OPEN + allowed).status is Status.OK
    late = verdict(WALL_KEY, OPEN, OPEN + allowed + timedelta(milliseconds=1))
    assert (late.status, late.reason) == (Status.STALE, "update_backend_responses no longer writes it")


def test_a_key_of_the_wall_is_stale_at_night_too() -> None:
    assert verdict(WALL_KEY, CLOSE, CLOSE + timedelta(hours=2)).status is Status.STALE


def test_a_key_of_the_market_rests_over_the_weekend_and_ages_from_the_open_on() -> None:
    written = CLOSE - timedelta(minutes=5)
    allowed = timedelta(seconds=MARKET_KEY.max_age_s or 0)
    assert verdict(MARKET_KEY, written, MONDAY).age_s == 300
    last_good = MONDAY + allowed - timedelta(minutes=5)
    assert verdict(MARKET_KEY, written, last_good).status is Status.OK
    assert verdict(MARKET_KEY, written, last_good + timedelta(seconds=1)).status is Status.STALE


@given(moments, moments, moments)
@settings(max_examples=150)
def test_open_time_adds_up_never_runs_backwards_and_is_never_more_than_time(
    a: datetime, b: datetime, c: datetime
) -> None:
    a, b, c = sorted((a, b, c))
    whole = open_seconds(a, c, SESSIONS)
    assert whole == pytest.approx(open_seconds(a, b, SESSIONS) + open_seconds(b, c, SESSIONS))
    assert 0 <= whole <= (c - a).total_seconds()
    assert open_seconds(c, a, SESSIONS) == 0


@given(moments, st.floats(0, 3 * 86_400))
@settings(max_examples=150)
def test_a_key_of_the_market_is_stale_exactly_when_the_market_was_open_for_too_long(
    written: datetime, later_s: float
) -> None:
    now = written + timedelta(seconds=later_s)
    found = verdict(MARKET_KEY, written, now)
    too_long = open_seconds(written, now, SESSIONS) > (MARKET_KEY.max_age_s or 0)
    assert found.status is (Status.STALE if too_long else Status.OK)


@pytest.mark.parametrize("speed", [1.0, 60.0, 1000.0])
def test_a_replay_s_keys_age_by_its_market_time_with_time_for_a_run_on_the_wall(speed: float) -> None:
    line = Timeline(speed, OPEN, 0.0, ((OPEN, OPEN + timedelta(days=13)),))
    found = standing(MARKET_KEY)
    looked = Looked({MARKET_KEY.name: found}, {MARKET_KEY.name: stamp(OPEN, found)})
    allowed_s = max(900.0, limits.REPLAY_MIN_MAX_AGE_S * speed) if speed > 1 else 900.0
    later_s = 0.4 * min(allowed_s, 5 * 3_600)
    soon = Times(OPEN + timedelta(seconds=later_s / speed), line.market_at, SESSIONS, speed)
    got = judge(MARKET_KEY, "", looked, soon)
    assert (got.status, got.allowed_s) == (Status.OK, allowed_s)
    assert got.age_s == pytest.approx(later_s, abs=0.01)
    long_after = Times(OPEN + timedelta(days=10), line.market_at, SESSIONS, speed)
    assert judge(MARKET_KEY, "", looked, long_after).status is Status.STALE


def test_a_key_that_is_not_there_is_absent_where_that_means_something_and_missing_where_not() -> None:
    report = check(Looked({}, {}), times(OPEN))
    by_key = {each.key: each for each in report.verdicts}
    assert by_key[keys.EMERGENCY_ACTIONS.name].reason == "No emergency."
    assert by_key[keys.GROK_CANDIDATES.name].status is Status.ABSENT
    assert by_key[keys.YFINANCE_ENHANCED.name].status is Status.ABSENT
    assert by_key[keys.TRADING_STATUS.name].status is Status.MISSING
    assert {each.status for each in report.verdicts} == {Status.ABSENT, Status.MISSING}
    assert not report.whole


def test_an_invalid_value_says_which_field_however_fresh_it_is() -> None:
    bad = verdict(keys.RISK_SETTINGS, OPEN, OPEN, '{"cooldown_minutes": -1}')
    assert bad.status is Status.INVALID
    assert "cooldown_minutes" in str(bad.reason)


def test_a_write_that_is_not_stamped_yet_ages_by_the_time_it_says_itself() -> None:
    key = keys.UI_STATE
    found = standing(key, json.dumps({"last_refresh": "2026-09-25T14:59:50Z"}))
    old = Stamp(revision=1, time=OPEN - timedelta(hours=1), sha1="of another value")
    got = judge(key, "", Looked({key.name: found}, {key.name: old}), times(OPEN))
    assert (got.status, got.age_s, got.stamp) == (Status.OK, 10.0, None)


def test_a_key_with_an_allowed_age_and_no_time_at_all_is_not_called_fresh() -> None:
    found = standing(keys.ACTIVE_ORDERS, "[]")
    got = judge(keys.ACTIVE_ORDERS, "", Looked({keys.ACTIVE_ORDERS.name: found}, {}), times(OPEN))
    assert (got.status, got.reason) == (Status.STALE, "nothing tells when it was written")


def test_a_key_that_this_user_may_not_read_is_judged_by_its_stamp() -> None:
    hidden = Found(keys.SENTINEL.reading(None), hidden=True)
    there = Stamp(revision=1, time=OPEN, sha1="some")
    gone = Stamp(revision=2, time=OPEN, sha1="absent")
    looks = [{keys.SENTINEL.name: there}, {keys.SENTINEL.name: gone}, {}]
    found = [judge(keys.SENTINEL, "", Looked({keys.SENTINEL.name: hidden}, each), times(OPEN)) for each in looks]
    assert [each.status for each in found] == [Status.OK, Status.MISSING, Status.MISSING]


def test_a_pattern_counts_its_members_and_is_as_good_as_the_worst() -> None:
    pattern = keys.YFINANCE_ENHANCED
    good, bad = pattern.of("AAPL"), pattern.of("MSFT")
    found = {good.name: Found(good.reading(good_raw()), good_raw(), 3), bad.name: standing(bad, "{}")}
    report = check(Looked(found, {}, ("AAPL", "MSFT", "PEP")), times(OPEN))
    got = next(each for each in report.verdicts if each.key == pattern.name)
    assert (got.status, got.members, got.candidates) == (Status.INVALID, 2, 3)
    assert "MSFT" in str(got.reason)


def good_raw() -> bytes:
    return keys.YFINANCE_ENHANCED.example.encode()


def test_names_that_the_contract_lacks_are_told_and_those_that_are_gone_are_not() -> None:
    stamps = {"old:key": Stamp(revision=1, time=OPEN, sha1="x"), "gone": Stamp(revision=2, time=OPEN, sha1="absent"),
              "yfinance_enhanced:AAPL": Stamp(revision=3, time=OPEN, sha1="y")}  # fmt: skip
    assert check(Looked({}, stamps), times(OPEN)).unknown == ("old:key",)


def test_a_whole_board_is_whole_and_every_key_is_counted_once() -> None:
    found = {name: standing(key) for name, key in keys.ENTRIES.items() if not key.pattern}
    report = check(Looked(found, {name: stamp(OPEN, each) for name, each in found.items()}), times(OPEN))
    assert report.whole
    assert [each.key for each in report.verdicts] == [key.name for entries in groups().values() for key in entries]
    assert set(keys.ENTRIES) == {each.key for each in report.verdicts}
    assert list(groups()) == ["core", "autotrading", "frontend", "backend", "forecasts", "market data", "own"]
    assert report.summary() == (
        f"{len(keys.ENTRIES)} keys: {len(keys.ENTRIES) - 1} ok, 1 absent (with reasons), 0 missing, 0 invalid, 0 stale"
    )


@pytest.mark.parametrize(
    ("typed", "meant"),
    [("trading_setings", "trading_settings"), ("manual_orders", "frontend:manual_orders"),
     ("backend:emergency_actions", "frontend:emergency_actions")],
)  # fmt: skip
def test_a_slip_of_the_pen_is_answered_with_what_was_meant(typed: str, meant: str) -> None:
    with pytest.raises(UnknownKey, match=meant):
        find(typed)


def test_a_ticker_s_key_is_found_by_its_name() -> None:
    assert find("yfinance_enhanced:BRK.B").name == "yfinance_enhanced:BRK.B"
    with pytest.raises(UnknownKey, match="is a channel"):
        find("qbot:updates")
