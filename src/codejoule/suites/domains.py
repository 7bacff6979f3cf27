"""Which of BigCodeBench's seven domains a program belongs to."""

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
_DOMAIN_OF = {m: domain for domain, names in _MODULES.items() for m in names.split()} | _ADDED


def domains_of(source: str) -> tuple[str, ...]:
    """Domains of the modules that `source` imports, anywhere in it, in the order of `DOMAINS`. Text
    that does not parse is read line by line up to the last line that makes sense, so a prompt that
    ends in mid-function has its domains, too."""
    present = {_DOMAIN_OF.get(name) for name in top_modules(source)}
    return tuple(domain for domain in DOMAINS if domain in present)


def top_modules(source: str) -> tuple[str, ...]:
    """Top-level modules imported anywhere in `source`, in order of first mention."""
    return tuple(dict.fromkeys(name.partition(".")[0] for name in imported_modules(source)))
