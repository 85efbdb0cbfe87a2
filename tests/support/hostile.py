"""Values that try to leave the place they are put in."""

from itertools import product
from typing import Final

MARK: Final = "q7ZxMARKq7Zx"
"""Ends half of the values, so that a message that shows one is found out."""

_QUOTES = (
    '"', "'", "`", '\\"', '\\\\"', "\\", "\\\\", "\\u0022", '"""', "''", "\u201c", "\u201d", "\uff02", "\uff07",
)  # fmt: skip
_BREAKS = (
    "\n",
    "\r",
    "\r\n",
    "\n\n",
    "\t",
    "\v",
    "\f",
    "\x00",
    "\x1b[2J",
    "\x7f",
    "\x85",
    "\u2028",
    "\u2029",
    "\ufeff",
)
_HEADERS = (
    "x\r\nX-Evil: 1",
    "x\nX-Evil: 1",
    "x\rX-Evil: 1",
    "\r\n\r\nGET /evil HTTP/1.1",
    "a\u560d\u560aSet-Cookie: x",
    "x\x00y",
)
_TEMPLATES = (
    "${input.v}", "$${input.v}", "${secret.S}", "${env.HOME}", "${", "}", "$", "$${", "${input.v:-x}", "{{v}}",
    "#{v}", "%(v)s", "{0}", "{v!r}", "$(id)", "`id`", "${jndi:ldap://x}", "<%= v %>", "${output.a.b}", "$1", "$2",
    "\\${input.v}",
)  # fmt: skip
_PATHS = (
    ".", "..", "/", "../", "..\\", "./", "//", "../..", "../../etc/passwd", "..\\..\\x", "/etc/passwd",
    "\\\\host\\share", "C:\\x", "C:/x", "~", "~root", "a/../b", "a/./b", "a//b", "..%2f", "%2e%2e/", "%2e%2e%2f",
    "%252e%252e%252f", "..%c0%af", "..;/", "....//", ".\x00.", "../\x00", "x/..", "x/../../..", "\u2025/",
    "\uff0e\uff0e/", "\u2024\u2024/", "..\u2215", "..\u2044", "..\uff0f", "con", "file:///etc/passwd", " ..", ".. ",
    "..\n", "-rf", "*", "a;b", "x/", "/x/..",
)  # fmt: skip
_PERCENT = (
    "%",
    "%%",
    "%0",
    "%0a",
    "%0d%0aX-Evil:1",
    "%00",
    "%2F",
    "%2f..%2f",
    "%25",
    "%u002e",
    "%zz",
    "100%",
    "%E0%A4%A",
    "+",
    "a+b",
    "a b",
)
_URLS = (
    "?", "#", "?a=b", "#f", "&", "&admin=1", "=", ";", "@", ":", "a@b", "user:pw@evil.example", "//evil.example/",
    "http://evil.example/", "https://evil.example", "javascript:alert(1)", "evil.example", "evil.example:80",
    "api.example.com@evil.example", "evil.example#api.example.com", "evil.example?api.example.com",
    "evil.example/api.example.com", "api.example.com.evil.example", "evilapi.example.com", "api.example.com:99999",
    "api.example.com:-1", "api.example.com:80:80", "api.example.com\\@evil.example", "api.example.com\tevil",
    "127.0.0.1", "127.1", "0x7f.1", "2130706433", "[::1]", "[::ffff:127.0.0.1]", "localhost", "80", "example",
    "api.example.com", "0", "169.254.169.254", "api.example.com\u3002evil.example",
    "api\uff0eexample\uff0ecom\uff0fevil", "api.example.com\uff03", "\uff45vil.example", "\u24d4vil.example", "xn--",
    "a" * 64 + ".example", "api.example.com%2eevil.example", "api.example.com.", "..api.example.com",
    "http://api.example.com@evil.example/", "http://api.example.com", "http://api.example.com/base/",
    "http://api.example.com/?q", "http://api.example.com/#f", "http:/api.example.com", "http:\\\\api.example.com",
    "ftp://api.example.com", "http://api.example.com:0", "http://[::1", "http://", " http://api.example.com",
    "HTTP://API.EXAMPLE.COM",
)  # fmt: skip
_SQL = (
    "'; DROP TABLE t; --", "1 OR 1=1", "' OR ''='", "1; DELETE FROM t", "/* x */", "-- ", "\\'; DROP TABLE t; --",
    "$$x$$", "$tag$", "?", ":name", "%s", "%%s", "NULL", "null", "x' UNION SELECT 1 --", "E'\\x27'",
    "\u02bc; DROP TABLE t", "0x27", "1e400",
)  # fmt: skip
_JSON = (
    '", "admin": true, "x": "', '"}', "}]", '{"a": 1}', "[1, 2]", "null", "true", "false", "NaN", "Infinity", "-0",
    "1e999", '\\", "x": "', '\\\\", "x": "', "\\u0022, x", "{", "[", ",", ":", '"x"', "\\ud800", '{"__proto__": {}}',
    "</script>", "// c", "/* c */",
)  # fmt: skip
_UNICODE = (
    "\ud800", "\udfff", "a\udc80b", "\ud83d", "\U0001f600", "\u202e\u202dx", "\u2066x", "e\u0301", "\u0301",
    "\u200b", "\u200d", "\u00ad", "\ufeffx", "\uff0e\uff0e\uff0f", "\u2215", "\u2044", "\u29f8", "\uff3c", "\u0130",
    "\u00df", "\u1e9e", "\ufb03", "\ufffd", "\uffff", "\U0010ffff", "\ue000\ue001\ue000", "\u212a", "\u0661\u0662",
    "\uff11", "\u00b2", "\u3000", "\u00a0", "Z\u0335\u0321\u0322a\u0334lgo",
)  # fmt: skip
_NUMBERS = (
    "0", "-1", "007", "0x10", "1e5", "1_000", "9" * 400, "1.0", ".5", "1,5", "\u0660", "+1", "-0.0", " 1", "1 ",
)  # fmt: skip
_LONG = ("a" * 100_000, '"' * 20_000, "\\" * 20_001, "../" * 20_000, "\u00e9" * 20_000, "${input.v}" * 5_000)
_PIECES = ('"', "\\", "\r\n", "${input.v}", "../", "%2e", "\x00", "'", "\u202e", "/", "#", "}")

_PLAIN = (
    "",
    " ",
    "x",
    *_QUOTES,
    *_BREAKS,
    *_HEADERS,
    *_TEMPLATES,
    *_PATHS,
    *_PERCENT,
    *_URLS,
    *_SQL,
    *_JSON,
    *_UNICODE,
    *_NUMBERS,
    *_LONG,
)
_PAIRS = tuple(a + b for a, b in product(_PIECES, _PIECES))
_AROUND = tuple(f"a{piece}b" for piece in (*_QUOTES, *_BREAKS, *_TEMPLATES, *_PERCENT, *_JSON))

HOSTILE: Final[tuple[str, ...]] = tuple(dict.fromkeys((*_PLAIN, *_PAIRS, *_AROUND)))
WITH_MARK: Final[tuple[str, ...]] = tuple(text + MARK for text in HOSTILE)

SCALARS: Final = (0, 5, -1, 2**53, 2**200, -(2**70), 1.5, -0.0, 1e22, 5e-324, True, False, None)
TREES: Final[tuple[object, ...]] = (
    [],
    {},
    [1, [2, {"a": None}]],
    {"k": [True, 2**200, '\u20ac"\\'], "": {"x": 1.5}},
    [[[[]]]],
    {'"': '"', "a\nb": "${input.v}"},
)
