"""URL templates."""

import pytest

from omnibase_core.enums.enum_core_error_code import EnumCoreErrorCode
from omnibase_core.errors.onex_error import ModelOnexError
from omnibase_core.grammar.template_text import TemplateError, parse_template
from omnibase_core.utils.templates import Scope
from omnibase_core.utils.url_template import UrlPlan, compile_url


def _plan(text: str, *allowed_hosts: str) -> UrlPlan:
    return compile_url(parse_template(text), allowed_hosts)


def _url(text: str, *allowed_hosts: str, env: dict[str, str] | None = None, **values: object) -> str:
    return _plan(text, *allowed_hosts).emit()(Scope(values, env=env or {}))[0]


def _problem(text: str, *allowed_hosts: str) -> str:
    with pytest.raises(TemplateError) as caught:
        _plan(text, *allowed_hosts)
    (problem,) = caught.value.problems
    return f"{problem.code}: {problem.message}"


@pytest.mark.parametrize(
    ("text", "url", "origin"),
    [
        ("http://h", "http://h", "http://h:80"),
        ("HTTPS://H.Example:443/a", "https://h.example/a", "https://h.example:443"),
        ("http://h:8080/a?b=c#d", "http://h:8080/a?b=c#d", "http://h:8080"),
        ("http://[::1]:8080/", "http://[::1]:8080/", "http://[::1]:8080"),
        (
            "http://bücher.example/ä ö?ü#ß",
            "http://xn--bcher-kva.example/%C3%A4%20%C3%B6?%C3%BC#%C3%9F",
            "http://xn--bcher-kva.example:80",
        ),
        ("http://bücher.example:81", "http://xn--bcher-kva.example:81", "http://xn--bcher-kva.example:81"),
        ("http://h/100%/a%2Fb%zz", "http://h/100%25/a%2Fb%25zz", "http://h:80"),
        ("http://h?a", "http://h?a", "http://h:80"),
    ],
)
def test_a_constant_url_is_encoded_once(text: str, url: str, origin: str) -> None:
    """What is encoded stays, what is not is encoded; host and scheme are in lower case, a default port goes."""
    plan = _plan(text)

    assert plan.emit()(Scope({})) == (url, origin)
    assert (plan.origin, plan.host_from_data) == (origin, False)


@pytest.mark.parametrize(
    ("text", "values", "url"),
    [
        ("http://h/${input.a}/b", {"a": "x/y"}, "http://h/x%2Fy/b"),
        ("http://h/${input.a}.json", {"a": "ä ?#"}, "http://h/%C3%A4%20%3F%23.json"),
        ("http://h/v${input.a}/${input.b}", {"a": 5, "b": True}, "http://h/v5/true"),
        ("http://h/${input.a}${input.b}", {"a": "x", "b": "y"}, "http://h/xy"),
        ("http://h/%2${input.a}", {"a": "F"}, "http://h/%252F"),
        ("http://h/%${input.a}", {"a": "2F"}, "http://h/%252F"),
        ("http://h/?q=${input.a}&x=%${input.a}", {"a": "a&b=c"}, "http://h/?q=a%26b%3Dc&x=%25a%26b%3Dc"),
        ("http://h?q=${input.a}", {"a": ""}, "http://h?q="),
        ("http://h/#${input.a}/x", {"a": "a#b/"}, "http://h/#a%23b%2F/x"),
        ("http://h/?a=1${input.a}#${input.a}?x", {"a": "z"}, "http://h/?a=1z#z?x"),
    ],
)
def test_a_value_is_encoded_for_its_part(text: str, values: dict[str, object], url: str) -> None:
    """A path value is one segment, a query or fragment value is percent-encoded whole."""
    assert _plan(text).emit()(Scope(values))[0] == url


@pytest.mark.parametrize("value", ["", ".", "..", "a\nb", "\0", "\x85"])
@pytest.mark.parametrize("text", ["http://h/${input.a}/b", "http://h/v${input.a}"])
def test_a_path_value_is_a_real_segment(text: str, value: str) -> None:
    """Empty and dot segments and control characters are refused; dots as SECURITY_VIOLATION."""
    with pytest.raises(ModelOnexError) as caught:
        _url(text, a=value)

    wanted = EnumCoreErrorCode.SECURITY_VIOLATION if "." in value else EnumCoreErrorCode.VALIDATION_ERROR
    assert caught.value.error_code is wanted


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "E-URL: the URL is empty"),
        ("/v1/x", "E-URL: the URL must be absolute"),
        ("ftp://h/x", "E-URL: the URL must be absolute"),
        ("http:///x", "E-URL: '' is no host"),
        ("http://a b/", "E-URL: 'a b' is no host"),
        ("http://h:0/", "E-URL: 'h:0' is no host"),
        ("http://h:70000/", "E-URL: 'h:70000' is no host"),
        ("http://h\\x/", "is no host"),
        ("http://h/x\n", "E-URL: the URL holds a control character"),
        ("http://u:p@h/", "E-URL-USERINFO"),
        ("http://u:${secret.P}@h/", "E-URL-USERINFO"),
        ("http://${input.h}/", "E-HOST-FROM-DATA"),
        ("http://a.${output.o.h}.b/", "E-HOST-FROM-DATA"),
        ("http://h:${input.p}/", "E-HOST-FROM-DATA"),
        ("http://${meta.operation_id}/", "E-HOST-FROM-DATA"),
        ("http://${index}/", "E-HOST-FROM-DATA"),
        ("${item}/x", "E-HOST-FROM-DATA"),
        ("${input.base}", "E-HOST-FROM-DATA"),
        ("${env.BASE}x", "E-URL: ${env.BASE} leads the URL"),
        ("${env.BASE}${env.REST}", "E-URL: ${env.BASE} leads the URL"),
    ],
)
def test_what_is_wrong_is_said_at_load(text: str, said: str) -> None:
    """A URL that can never be right, or whose host data would choose freely, is refused at load."""
    assert said in _problem(text)


def test_a_constant_host_obeys_the_contracts_own_list() -> None:
    """A constant host outside allowed_hosts is a load error."""
    assert "E-HOST" in _problem("http://other.example/", "api.example.com")
    assert _url("http://api.example.com:81/", "api.example.com:81") == "http://api.example.com:81/"


@pytest.mark.parametrize(
    ("host", "url"),
    [
        ("a.example.com", "http://a.example.com/x"),
        ("A.EXAMPLE.com:80", "http://a.example.com/x"),
        ("a.example.com:81", "http://a.example.com:81/x"),
    ],
)
def test_data_may_choose_among_allowed_hosts(host: str, url: str) -> None:
    """A host from data must match the list, and the plan says that it came from data."""
    assert _url("http://${input.h}/x", "*.example.com", h=host) == url
    assert _plan("http://${input.h}/x", "*.example.com").host_from_data
    assert _plan("http://${input.h}/x", "*.example.com").origin is None


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "example.com",
        "a.example.com.evil",
        "a.example.com:x",
        "a.example.com@evil",
        "",
        "a b",
        "a%2e.example.com",
        "ａ＠b",
    ],
)
def test_other_hosts_are_refused(host: str) -> None:
    """What does not match is refused without telling the value."""
    with pytest.raises(ModelOnexError) as caught:
        _url("http://${input.h}/x", "*.example.com", h=host)

    assert not host or host not in caught.value.message.replace("*.example.com", "")


def test_the_operators_host_needs_no_list() -> None:
    """A host from env or secret is the operator's; with a list it is held to it all the same."""
    plan = _plan("https://${env.H}:${secret.P}/x")

    assert plan.emit()(Scope({}, env={"H": "h.example"}, secrets={"P": "8443"})) == (
        "https://h.example:8443/x",
        "https://h.example:8443",
    )
    assert not plan.host_from_data
    with pytest.raises(ModelOnexError, match="not in allowed_hosts"):
        _url("https://${env.H}/x", "other.example", env={"H": "h.example"})


@pytest.mark.parametrize(
    ("text", "base", "url"),
    [
        ("${env.B}/v1/${input.a}", "https://h/base/", "https://h/base/v1/x%2Fy"),
        ("${env.B}/v1", "HTTP://H:80", "http://h/v1"),
        ("${env.B}?q=${input.a}", "https://h/p/", "https://h/p/?q=x%2Fy"),
        ("${env.B}#f", "https://h/p", "https://h/p#f"),
        ("${env.B}", "https://h/p/", "https://h/p/"),
        ("${env.B}", "https://h/p?page=2&c=a%2Bb", "https://h/p?page=2&c=a%2Bb"),
        ("${env.B}/x", "https://bücher.example/ä", "https://xn--bcher-kva.example/%C3%A4/x"),
    ],
)
def test_a_leading_placeholder_is_a_base_url(text: str, base: str, url: str) -> None:
    """It is parsed as a URL; one slash joins it to a path, and alone it is used as it is, with its query."""
    assert _url(text, env={"B": base}, a="x/y") == url


@pytest.mark.parametrize(
    "base",
    [
        "",
        "h",
        "//h",
        "ftp://h",
        "https://u:p@h",
        "https://h?q=1",
        "https://h#f",
        "https://h:x",
        "https://",
        "https://a b",
        "https://h\n",
        "https://h\\x",
        "https://[::1",
    ],
)
def test_a_bad_base_url_is_refused(base: str) -> None:
    """Anything but scheme, host and path is refused in front of a path."""
    with pytest.raises(ModelOnexError, match="is no base URL") as caught:
        _url("${env.B}/x", env={"B": base})

    assert caught.value.error_code is EnumCoreErrorCode.VALIDATION_ERROR


def test_a_whole_url_from_data_obeys_the_list() -> None:
    """The next page of a listing may be a whole URL from an earlier answer, on an allowed host."""
    plan = _plan("${output.list.next}", "api.example.com")

    def render(url: str) -> str:
        return plan.emit()(Scope({}, {"list": {"next": url}}))[0]

    assert render("https://api.example.com/items?page=2") == "https://api.example.com/items?page=2"
    with pytest.raises(ModelOnexError) as caught:
        render("https://evil.example/items?page=2")
    assert caught.value.error_code is EnumCoreErrorCode.SECURITY_VIOLATION
