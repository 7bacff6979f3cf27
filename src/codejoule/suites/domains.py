"""Which of BigCodeBench's seven domains a program belongs to."""

from collections.abc import Iterable

from codejoule.domain import DOMAINS, imported_modules

# Top-level modules of each domain: facts published with BigCodeBench as
# analysis/lib2domain.json (github.com/bigcode-project/bigcodebench, commit 2a11c99,
# Apache-2.0). A module that is not listed belongs to no domain.
_MODULES = {
    "Computation": """
        IPython Levenshtein cmath cv2 gensim geopandas keras librosa math nltk numpy obspy pandas
        pytesseract scipy shapely skimage sklearn soundfile statistics statsmodels sympy
        tensorflow textblob torch wordninja""",
    "General": """
        argparse array ast bisect builtins collections copy decimal difflib enum faker fnmatch
        functools heapq importlib inspect itertools multidict natsort operator pkgutil pprint
        prettytable queue random re regex string texttable textwrap types typing unicodedata
        uuid warnings""",
    "Visualization": "PIL folium matplotlib mpl_toolkits seaborn turtle wordcloud",
    "System": """
        aspose configparser csv ctypes docx docxtpl errno filecmp getpass glob gzip imp io json
        locale logging multiprocessing openpyxl os pathlib pickle platform psutil select shlex
        shutil signal sqlalchemy sqlite3 struct subprocess sys tarfile threading xlrd xlwt yaml
        zipfile zlib""",
    "Time": "calendar dateutil datetime holidays pytz time",
    "Network": """
        bs4 cgi chardet django email flask flask_login flask_mail flask_restful flask_wtf ftplib
        geopy html http ipaddress lxml mechanize mimetypes pyquery python_http_client requests
        selenium sendgrid smtplib socket ssl urllib werkzeug wikipedia wtforms xml xmltodict""",
    "Cryptography": """
        Crypto base64 binascii blake3 codecs cryptography hashlib hmac rsa secrets""",
}
# Not in that list; the bundled suites draw with it, and no BigCodeBench task imports it.
_ADDED = {"colorsys": "Visualization"}
_PUBLISHED = {module: domain for domain, names in _MODULES.items() for module in names.split()}
_DOMAIN_OF = _PUBLISHED | _ADDED


def domains_of(source: str) -> tuple[str, ...]:
    """Domains of the modules that `source` imports, anywhere in it, in the order of `DOMAINS`.

    Text that does not parse is read line by line up to the last line that makes sense, so a
    prompt that ends in mid-function has its domains, too.
    """
    return _in_order(_DOMAIN_OF[name] for name in top_modules(source) if name in _DOMAIN_OF)


def domains_by_substring(text: str) -> tuple[str, ...]:
    """Domains whose modules' names occur anywhere in `text`, be it inside other words.

    The rule behind the figures of earlier work ("re" is found in "return"), kept for
    comparison with them alone.
    """
    return _in_order(domain for module, domain in _PUBLISHED.items() if module in text)


def top_modules(source: str) -> tuple[str, ...]:
    """Top-level modules imported anywhere in `source`, in order of first mention."""
    return tuple(dict.fromkeys(name.partition(".")[0] for name in imported_modules(source)))


def _in_order(found: Iterable[str]) -> tuple[str, ...]:
    present = set(found)
    return tuple(domain for domain in DOMAINS if domain in present)
