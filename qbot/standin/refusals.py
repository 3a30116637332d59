"""What any vendor may answer on a bad day."""

from __future__ import annotations

from qbot.standin.troubles import Trouble
from qbot.standin.vendor import PAGE, Said, text

WEB_PAGE = (
    "<!DOCTYPE html>\n<html><head><title>Attention Required!</title></head>"
    "<body><h1>Sorry, you have been blocked</h1></body></html>"
)
ANY = {
    Trouble.GARBAGE: Said(b'\x00\xff{{"c": 1e, \x17'),
    Trouble.HTML: text(WEB_PAGE, 200, PAGE),  # a wall before the vendor, under any content type and status
    Trouble.EMPTY: Said(b""),
}
