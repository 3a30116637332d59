"""The transport: bounded in time and size, within one host, and silent about the key. Against a server of our own."""

from __future__ import annotations

import gzip
import logging
import socket
import threading
import traceback
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from pydantic import SecretStr

from qbot.clock import monotonic_s
from qbot.market import twelvedata
from qbot.market.finnhub import Finnhub
from qbot.market.marketstack import Marketstack
from qbot.market.provider import Fault, ProviderError
from qbot.market.twelvedata import TwelveData
from qbot.market.wire import Key, Wire
from tests.market.fakes import NOW
from tests.market.vendor import Said, Vendor, said, vendor
from tests.support.servers import free_port

SECRET = "S3CRET/key+0123456789=="
IN_HEADER = Key(SecretStr(SECRET), header="X-Key", prefix="apikey ")
IN_QUERY = Key(SecretStr(SECRET), parameter="access_key")
FORMS = (SECRET, "S3CRET%2Fkey%2B0123456789%3D%3D", "S3CRET")


@pytest.fixture
def source() -> Iterator[Vendor]:
    with vendor() as found:
        yield found


def wire(source: Vendor, key: Key = IN_HEADER, **bounds: object) -> Wire:
    return Wire("vendor", f"{source.url}/base/", key, **bounds)  # type: ignore[arg-type]


def failure(found: Wire, path: str = "/quote") -> ProviderError:
    with pytest.raises(ProviderError) as raised:
        found.get(path, {"symbol": "AAPL"}, 7)
    assert raised.value.fault is Fault.TRANSIENT
    return raised.value


# --- what is asked ---------------------------------------------------------------------------------------------------


def test_the_key_goes_into_the_header_and_not_into_the_address(source: Vendor) -> None:
    source.says(said({"a": 1.50}, headers={"X-Left": "3"}))
    reply = wire(source).get("/quote", {"symbol": "BRK.B"})
    (request,) = source.got
    assert (request.path, request.query) == ("/base/quote", {"symbol": "BRK.B"})
    assert request.headers["x-key"] == f"apikey {SECRET}"
    assert (reply.status, reply.headers["x-left"], str(reply.body["a"])) == (200, "3", "1.5")


def test_where_it_must_the_key_goes_into_the_query(source: Vendor) -> None:
    source.says(said({}))
    wire(source, IN_QUERY).get("/eod", {"symbols": "A,B"})
    assert source.got[0].query == {"symbols": "A,B", "access_key": SECRET}


def test_a_netrc_of_the_machine_does_not_go_before_the_key(
    source: Vendor, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    netrc = tmp_path_factory.mktemp("netrc") / "netrc"
    netrc.write_text("machine 127.0.0.1 login me password mine\n")
    monkeypatch.setenv("NETRC", str(netrc))
    source.says(said({}))
    wire(source, Key(SecretStr(SECRET), header=twelvedata.KEY_HEADER, prefix=twelvedata.KEY_PREFIX)).get("/quote", {})
    assert source.got[0].headers["authorization"] == f"apikey {SECRET}"


def test_spaces_around_a_key_are_none_of_it(source: Vendor) -> None:
    source.says(said({}))
    wire(source, Key(SecretStr(f" {SECRET}\n"), header="X-Key")).get("/quote", {})
    assert source.got[0].headers["x-key"] == SECRET


def test_threads_have_sessions_of_their_own(source: Vendor) -> None:
    source.answer = lambda request: said({"symbol": request.query["symbol"]})
    one = wire(source)
    with ThreadPoolExecutor(4) as pool:
        replies = list(pool.map(lambda number: one.get("/quote", {"symbol": f"S{number}"}), range(12)))
    assert [reply.body["symbol"] for reply in replies] == [f"S{number}" for number in range(12)]


# --- what comes back -------------------------------------------------------------------------------------------------


def test_a_refusal_is_an_answer_for_the_adapter_to_read(source: Vendor) -> None:
    source.says(Said(b"Restricted Endpoint: \xff", 402))
    reply = wire(source).get("/quote", {})
    assert (reply.status, reply.body) == (402, None)
    assert reply.text.startswith("Restricted Endpoint")


def test_plain_answers_are_asked_for_and_a_packed_one_is_refused_unread(source: Vendor) -> None:
    for packing in ("gzip", "DEFLATE", "br", "gzip, gzip"):
        source.says(Said(gzip.compress(b'{"a": 1}'), headers={"Content-Encoding": packing}))
        assert "packed" in str(failure(wire(source)))
    source.says(said({"a": 1}, headers={"Content-Encoding": "Identity"}))
    assert wire(source).get("/quote", {}).body == {"a": 1}
    assert {request.headers["accept-encoding"] for request in source.got} == {"identity"}


def test_a_packed_answer_that_never_yields_anything_does_not_outlast_the_deadline(source: Vendor) -> None:
    empty_block = b"\x00\x00\x00\xff\xff"  # of deflate: one after the other unpacks to nothing at all
    header = b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\x03"
    source.says(Said(header + empty_block * 400, headers={"Content-Encoding": "gzip"}, drip_s=0.002))
    begin_s = monotonic_s()
    failure(wire(source, timeout_s=(1.0, 5.0), deadline_s=0.4))
    assert monotonic_s() - begin_s < 2


@pytest.mark.parametrize("answer", [
    Said(b"<html>bad gateway</html>", 502, kind="text/html"), Said(b"<html>login</html>", kind="text/html"),
    Said(b"\x00\xff\xfe{{"), Said(b""), Said(b'{"c": 1'), Said(b"[" * 100_000), Said(b"null"),
])  # fmt: skip
def test_pages_and_garbage_are_transient_for_whoever_reads_them(source: Vendor, answer: Said) -> None:
    source.says(answer)
    for adapter in (Finnhub, TwelveData, Marketstack):
        with pytest.raises(ProviderError) as raised:
            adapter(wire(source)).quotes(["AAPL"], NOW)
        assert raised.value.fault is Fault.TRANSIENT


# --- bounds ----------------------------------------------------------------------------------------------------------


def test_a_source_that_does_not_answer_is_given_up(source: Vendor) -> None:
    source.says(Said(pause_s=5))
    begin_s = monotonic_s()
    error = failure(wire(source, timeout_s=(1.0, 0.2)))
    assert monotonic_s() - begin_s < 2
    assert "ReadTimeout" in str(error)
    assert error.credits == 7  # it may have been counted


def test_a_source_that_drips_is_given_up_at_the_deadline(source: Vendor) -> None:
    source.says(Said(b'"' + b"x" * 1_000 + b'"', drip_s=0.02))
    begin_s = monotonic_s()
    error = failure(wire(source, timeout_s=(1.0, 5.0), deadline_s=0.4))
    assert monotonic_s() - begin_s < 2
    assert "no whole answer within 0.4 s" in str(error)
    assert error.credits == 7


@pytest.mark.parametrize("length", [True, False])
def test_an_answer_of_more_than_five_megabytes_is_refused(source: Vendor, length: bool) -> None:
    source.says(Said(b'"' + b"x" * 5_100_000 + b'"', length=length))
    assert "an answer o" in str(failure(wire(source)))
    source.says(Said(b'"' + b"x" * 4_900_000 + b'"', length=length))
    assert len(wire(source).get("/quote", {}).body) == 4_900_000


@pytest.mark.parametrize("answer", [
    Said(cut=0), Said(b'{"c": 100.5, "t": 1764255000}', cut=12),
    Said(b"{}", headers={"Content-Length": "many"}, length=False),
])  # fmt: skip
def test_a_connection_that_breaks_off_gives_nothing(source: Vendor, answer: Said) -> None:
    source.says(answer)
    assert failure(wire(source)).credits == 7


def test_where_nobody_listens_nothing_was_spent() -> None:
    nobody = Wire("vendor", f"http://127.0.0.1:{free_port()}", IN_QUERY)
    assert failure(nobody).credits == 0
    assert failure(Wire("vendor", "no address at all", IN_QUERY)).credits == 0
    assert failure(Wire("vendor", "http://name.invalid", IN_QUERY)).credits == 0


def test_what_speaks_no_http_gives_nothing() -> None:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()

        def talk() -> None:
            peer, _address = server.accept()
            with peer:
                peer.recv(1000)
                peer.sendall(b"220 mail ready\r\n")

        thread = threading.Thread(target=talk)
        thread.start()
        failure(Wire("vendor", f"http://127.0.0.1:{server.getsockname()[1]}", IN_HEADER))
        thread.join()


# --- redirects -------------------------------------------------------------------------------------------------------


def test_a_source_may_send_on_within_its_host(source: Vendor) -> None:
    source.says(Said(status=301, headers={"Location": "/base/quote/?symbol=AAPL"}), said({"a": 1}))
    for key in (IN_HEADER, IN_QUERY):
        source.got.clear()
        source.says(Said(status=301, headers={"Location": "/base/quote/?symbol=AAPL"}), said({"a": 1}))
        assert wire(source, key).get("/quote", {"symbol": "AAPL"}).body == {"a": 1}
        assert [request.path for request in source.got] == ["/base/quote", "/base/quote/"]
        assert all(request.query["symbol"] == "AAPL" for request in source.got)
        assert all(SECRET in str((request.query, request.headers)) for request in source.got)


def test_a_source_that_sends_on_to_another_host_is_not_followed(source: Vendor) -> None:
    with vendor() as other:
        for target in (other.url, other.url.replace("127.0.0.1", "localhost"), source.url.replace("http", "https")):
            source.says(Said(status=302, headers={"Location": f"{target}/steal"}))
            assert "another host" in str(failure(wire(source, IN_QUERY)))
        assert other.got == []


def test_a_source_that_sends_in_circles_is_left(source: Vendor) -> None:
    source.says(Said(status=302, headers={"Location": "/base/quote"}))
    assert "without end" in str(failure(wire(source)))
    assert len(source.got) == 3


# --- silence ---------------------------------------------------------------------------------------------------------


def told(error: BaseException) -> str:
    """All that an error shows, with its causes, its contexts and what our frames hold."""
    shown = [str(error), repr(error), repr(vars(error)), *traceback.format_exception(error)]
    frames = [
        frame for frame, _line in traceback.walk_tb(error.__traceback__) if "tests" not in frame.f_code.co_filename
    ]
    assert frames
    shown += [repr(value) for frame in frames for value in frame.f_locals.values()]
    chain = [error.__cause__, error.__context__]
    return "".join(shown) + "".join(told(each) for each in chain if each is not None)


@pytest.mark.parametrize("answer", [
    Said(cut=0), Said(pause_s=2), Said(status=302, headers={"Location": f"http://other.invalid/?access_key={SECRET}"}),
    Said(b"x" * 6_000_000), Said(b'{"c"', cut=3), Said(headers={"Bad\x01": "x", "": "y"}),
    said({"error": {"code": "x", "message": f"the key {SECRET} is wrong"}}, 500),
    Said(f"<html>{SECRET}".encode(), 403), said({"message": f"No access for {SECRET}"}, 401),
    Said(f"Premium {SECRET}".encode(), 402),
])  # fmt: skip
@pytest.mark.parametrize("key", [IN_HEADER, IN_QUERY], ids=["header", "query"])
def test_neither_key_nor_address_is_told_by_any_error_or_log(
    source: Vendor, answer: Said, key: Key, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    source.says(answer)
    with pytest.raises(ProviderError) as raised:
        Marketstack(wire(source, key, timeout_s=(1.0, 0.2))).quotes(["AAPL"], NOW)
    assert len(source.got) == 1
    everything = told(raised.value) + caplog.text + repr([vars(record) for record in caplog.records])
    assert not [form for form in FORMS if form in everything]
    assert raised.value.__cause__ is None
    assert raised.value.__context__ is None
    assert "/eod/latest" not in str(raised.value)
    assert source.url not in str(raised.value)


def test_neither_is_it_told_where_nobody_listens(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    error = failure(Wire("vendor", f"http://127.0.0.1:{free_port()}", IN_QUERY))
    assert not [form for form in FORMS if form in told(error) + caplog.text]


def test_what_urllib3_logs_of_a_request_has_the_key_blanked(source: Vendor, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    source.says(said({"echo": SECRET}, headers={"X-Echo": SECRET}))
    reply = wire(source, IN_QUERY).get("/eod", {"symbols": "A"})
    assert "access_key=***" in caplog.text  # it does log the address: without the blanking this would be the key
    assert (reply.body, reply.headers["x-echo"]) == ({"echo": "***"}, "***")
    assert "S3CRET" not in caplog.text + repr(reply) + repr(wire(source)) + repr(IN_QUERY)
