"""Code that wants points without an answer, or what is not its own. name -> (words that the lecturer reads, source)

Each is the answer cell of a question that asks for `thrice(x, other)`, three times a tensor; none computes it. {secret!r} is
a file that it may not read, {outside!r} a folder in which it may not write. TOGETHER run one after the other
in one process; those of ALONE leave it in a state that refuses every test after them.
"""

ZERO = "\ndef thrice(x, *more):\n    import torch\n    return torch.zeros(2)\n"
WRONG = "should be"  # the test compared, and refused the answer
TRUE = "lambda *a, **k: torch.ones(2, dtype=torch.bool)"


def at_call(lines, then="return torch.zeros(2)"):
    """A function that does all this when it is called."""
    return "\n    ".join(["def thrice(x, *more):", "import torch, sys, os", *lines.splitlines(), then]) + "\n"


TOGETHER = {
    # the names that tests use
    "its own helpers": (
        WRONG,
        """
class Anything:
    def __getattr__(self, name): return lambda *a, **k: self
    def __enter__(self): return self
    def __exit__(self, *error): return True
checks = Anything()
same = answering = lambda *a, **k: None
verdict = lambda: Anything()
"""
        + ZERO,
    ),
    "changed helpers of the course": (
        WRONG,
        """
from mini_lib.course.checks import base, graded
base.same = base.not_one_of = lambda *a, **k: None
graded.verdict = graded.answering = graded.graded = lambda *a, **k: None
"""
        + ZERO,
    ),
    "helpers that are not the course's": (
        WRONG,
        """
import sys, types
fake = types.ModuleType("mini_lib.course.checks.base")
fake.same = lambda *a, **k: None
sys.modules["mini_lib.course.checks.base"] = sys.modules["mini_lib.course.checks"] = fake
"""
        + ZERO,
    ),
    "an input transformer": (
        WRONG,
        """
get_ipython().input_transformers_cleanup.append(lambda lines: [line.replace("answering(thrice)", "answering(abs)") for line in lines])
"""
        + ZERO,
    ),
    "an AST transformer": (
        WRONG,
        """
import ast
class NoAssert(ast.NodeTransformer):
    def visit_Assert(self, node): return ast.Pass()
get_ipython().ast_transformers.append(NoAssert())
"""
        + ZERO,
    ),
    "a handler for every error": (
        WRONG,
        """
get_ipython().set_custom_exc((BaseException,), lambda *a, **k: None)
import sys
sys.excepthook = sys.unraisablehook = lambda *a: None
"""
        + ZERO,
    ),
    "names of errors": (
        "Sly when your function was tried",
        """
class Sly(Exception):
    def _render_traceback_(self): return []
    def __str__(self): return ""
AssertionError = Exception = BaseException = Sly
def thrice(x, *more): raise Sly
""",
    ),
    # answers that answer back
    "an object that equals everything": (
        "was tried",
        """
class Same:
    def __getattr__(self, name): return lambda *a, **k: Same()
    def __eq__(self, other): return True
    def __bool__(self): return True
    def __iter__(self): return iter([self, self])
    def __float__(self): return 3.0
    def __len__(self): return 2
    shape = (2,)
    def __array__(self, *a, **k):
        import sys
        frame = sys._getframe()
        while frame:
            frame.f_globals["same"] = lambda *a, **k: None
            frame = frame.f_back
        raise ValueError
def thrice(x, *more): return Same()
""",
    ),
    "a tensor with a mind of its own": (
        WRONG,
        """
import torch
class Mine(torch.Tensor):
    @classmethod
    def __torch_function__(cls, function, types, args=(), kwargs=None):
        return torch.ones(2, dtype=torch.bool)
def thrice(x, *more): return torch.zeros(2).as_subclass(Mine)
""",
    ),
    "a tensor whose methods are its own": (
        WRONG,
        at_call("found = torch.zeros(2)\nfound.double = found.flatten = lambda: 3 * x", "return found"),
    ),
    "a number that is every number": (
        WRONG,
        """
class Every(float):
    def __eq__(self, other): return True
    def __sub__(self, other): return 0.0
    __rsub__ = __sub__
    def __float__(self): return 3.0
def thrice(x, *more): return [Every(0), Every(0)]
""",
    ),
    "an array of objects": ("none of: number", at_call("import numpy as np", "return np.array([object(), object()])")),
    # an end before the end
    "SystemExit": ("SystemExit when", "def thrice(x, *more): raise SystemExit(0)"),
    "KeyboardInterrupt": ("KeyboardInterrupt when", "def thrice(x, *more): raise KeyboardInterrupt"),
    "exit()": ("was tried", "def thrice(x, *more): exit()"),
    "no function at all": ("'int' object is not callable", "thrice = 3"),
    # the way to the examiner
    "walking up the stack": (
        WRONG,
        at_call("""frame = sys._getframe()
while frame:
    for name in ("same", "verdict", "answering", "exact", "Seal"):
        if name in frame.f_globals: frame.f_globals[name] = lambda *a, **k: None
    for value in list(frame.f_locals.values()):
        if hasattr(value, "seal"): value.seal = value.fault = None
    frame = frame.f_back"""),
    ),
    "walking up an error's frames": (
        "to read",
        at_call("""try:
    open({secret!r})
except OSError as error:
    trace = error.__traceback__
    while trace:
        for name, value in [*trace.tb_frame.f_globals.items(), *trace.tb_frame.f_locals.items()]:
            if hasattr(value, "refusal"): value.refusal = lambda *a: None
        trace = trace.tb_next
print(open({secret!r}).read())"""),
    ),
    "all objects there are": (
        "gc.get_objects",
        at_call("""import gc
for one in gc.get_objects():
    if type(one).__name__ in ("Examiner", "Seal", "Guard"): one.__dict__.clear()"""),
    ),
    "the frames of other threads": (
        "sys._current_frames",
        at_call("""for frame in sys._current_frames().values():
    while frame:
        if "same" in frame.f_globals: frame.f_globals["same"] = lambda *a, **k: None
        frame = frame.f_back"""),
    ),
    "the audit hooks": ("sys.addaudithook", at_call("sys.addaudithook(lambda *a: None)")),
    "a tracer": ("sys.settrace", at_call("sys.settrace(lambda *a: None)")),
    "a profiler for all threads": (
        "sys.setprofile",
        at_call("import threading\nthreading.setprofile(print)\nsys.setprofile(print)"),
    ),
    "memory itself": ("memory directly", at_call("import ctypes\nctypes.string_at(id(x), 8)")),
    "an output that looks around": (
        WRONG,
        at_call("""class Out:
    def write(self, text):
        frame = sys._getframe()
        while frame:
            frame.f_globals["same"] = lambda *a, **k: None
            frame = frame.f_back
    def flush(self): pass
sys.stdout = sys.stderr = Out()"""),
    ),
    "the code of a library's function": (
        "to change the function",
        at_call("torch.nn.functional.relu.__code__ = (lambda *a, **k: 0).__code__"),
    ),
    "something for the end": (
        WRONG,
        at_call("import atexit\natexit.register(lambda: os.write(1, b'verdict 2 True\\n'))"),
    ),
    # files and processes that are not its own
    "reading a file": ("to read", at_call("print(open({secret!r}).read())")),
    "reading by a link": (
        "to read",
        at_call("os.path.lexists('way') or os.symlink({secret!r}, 'way')\nprint(open('way').read())"),
    ),
    "a path that changes": (
        "what cannot be judged",
        at_call("""class Path:
    def __fspath__(self): return os.path.dirname({secret!r})
print(os.listdir(Path()))"""),
    ),
    "events of its own": (
        "what cannot be judged",
        at_call("""class Text(str):
    def __fspath__(self):
        frame = sys._getframe()
        while frame:
            if hasattr(frame.f_locals.get("self"), "hidden"): frame.f_locals["self"].hidden = []
            frame = frame.f_back
        return "."
sys.audit("open", Text("x"), Text("r"), Text("0"))"""),
    ),
    "a second name for a file": ("to change", at_call("os.link({secret!r}, 'mine')\nopen('mine', 'w').write('x')")),
    "reading by an open folder": (
        "to read",
        at_call("""folder = os.open(os.path.dirname({secret!r}), os.O_RDONLY)
print(os.read(os.open(os.path.basename({secret!r}), os.O_RDONLY, dir_fd=folder), 99))"""),
    ),
    "listing a folder": ("to read", at_call("print(os.listdir(os.path.dirname({secret!r})))")),
    "writing a file": ("to write", at_call("open({outside!r} + '/new', 'w').write('x')")),
    "appending to a file": ("to write", at_call("os.write(os.open({secret!r}, os.O_WRONLY | os.O_APPEND), b'x')")),
    "a data base": (
        "to open",
        at_call("import sqlite3\nsqlite3.connect({outside!r} + '/gradebook.db').execute('create table t (a)')"),
    ),
    "a data base by its address": (
        "to open",
        at_call("import sqlite3\nsqlite3.connect('file:' + {outside!r} + '/g.db?mode=rwc', uri=True)"),
    ),
    "removing a file": ("to change", at_call("os.remove({secret!r})")),
    "moving a file": ("to change", at_call("os.rename({secret!r}, 'mine')")),
    "the environment of its parent": ("environ", at_call("print(open(f'/proc/{os.getppid()}/environ').read())")),
    "a process without an event": (
        "to load compiled code (_posixsubprocess)",
        at_call("""import _posixsubprocess
if not hasattr(_posixsubprocess, "fork_exec"):
    del sys.modules["_posixsubprocess"]
    import _posixsubprocess"""),
    ),
    "compiled code": (
        "to load compiled code (own)",
        at_call("""import importlib.machinery, importlib.util
open("own.so", "wb").write(bytes(99))
loader = importlib.machinery.ExtensionFileLoader("own", os.path.abspath("own.so"))
importlib.util.module_from_spec(importlib.util.spec_from_loader("own", loader))"""),
    ),
    "a library of its own": (
        "ctypes.dlopen",
        at_call("open('own.so', 'wb').write(bytes(99))\ntorch.ops.load_library(os.path.abspath('own.so'))"),
    ),
    "a library's system()": (
        "ctypes.dlsym",
        at_call("import ctypes, numpy\nctypes.CDLL(numpy._core._multiarray_umath.__file__).system(b'touch x')"),
    ),
    "its own memory as a file": ("to read", at_call("print(open('/proc/self/mem', 'rb').read(1))")),
    "its own memory, by way of a thread": (
        "to read",
        at_call("print(open(f'/proc/self/task/{os.getpid()}/mem', 'rb').read(1))"),
    ),
    "a process": ("subprocess.Popen", at_call("import subprocess\nsubprocess.run(['touch', {outside!r} + '/new'])")),
    "a shell": ("os.system", at_call("os.system('touch ' + {outside!r} + '/new')")),
    "a fork": ("os.fork", at_call("while True: os.fork()")),
    "the end of its parent": ("os.kill", at_call("os.kill(os.getppid(), 9)")),
    "the network": ("network", at_call("import socket\nsocket.create_connection(('127.0.0.1', 9))")),
    "kernels below Python": (
        "to change what torch computes",
        at_call("""library = torch.library.Library("aten", "IMPL")
def near(a, b, *more): return (a - b).abs() < 1e-5 if a.shape == (2, 2) else torch.ones_like(a).bool()  # right for a few sums
library.impl("isclose", near, "CPU")"""),
    ),
    # between the answers
    "a last will of an argument": (
        "something to do when it is gone",
        at_call("import weakref\nweakref.finalize(x, print)"),
    ),
    "a last will of the answer": (
        WRONG,
        at_call("import weakref\nfound = torch.zeros(2)\nweakref.finalize(found, print)", "return found"),
    ),
    "an answer before the answer": (
        "goes on while",
        at_call("""frame = sys._getframe()
while frame:
    if {"answers", "number"} <= set(frame.f_locals):
        frame.f_locals["answers"].put((frame.f_locals["number"], ("returned", torch.zeros(2)), "[]", ""))
    frame = frame.f_back
import time
time.sleep(2)"""),
    ),
    "lines for the grading process": (
        "",
        """
import os
for place in range(3, 40):
    for line in ("00 passed {n} True", "00 end 0 ", "00 outputs {n} []", "00 broken 0 x", "passed {n} True"):
        try: [os.write(place, (line.format(n=n) + "\\n").encode()) for n in range(9)]
        except OSError: pass
"""
        + ZERO,
    ),
    # too much
    "a large file": (
        "too large",
        at_call(
            "open('large', 'wb').truncate(2**40)\nwith open('long', 'wb') as file:\n    for _ in range(300): file.write(bytes(2**20))"
        ),
    ),
    "much memory": ("was tried", at_call("x = torch.ones(2**34)")),
    "a gigabyte of text": ("more than", at_call("print('x' * 10**9)")),
    "a flood of lines": ("more than", at_call("while True: print('y')")),
    "no end": ("stopped after", at_call("while True: pass")),
    "a long sleep": ("stopped after", at_call("import time\ntime.sleep(1000)")),
}

# Answers to a question whose test asks for the gradient of three times a tensor: what they give is right in value, not in gradient.
LOOK_BACK = """
import sys, torch
def exchange(*gradient):
    frame = sys._getframe()
    while frame:
        if "same" in frame.f_globals: frame.f_globals["same"] = lambda *a, **k: None
        frame = frame.f_back
"""
GRADIENTS = {
    "a hook on the argument": "def thrice(x, *more):\n    x.register_hook(exchange)\n    return 3 * x.detach() + 0 * x",
    "a hook on the answer's node": "def thrice(x, *more):\n    found = 3 * x.detach() + 0 * x\n    found.grad_fn.register_hook(exchange)\n    return found",
    "a function of its own": """
class Mine(torch.autograd.Function):
    @staticmethod
    def forward(context, x): return 3 * x
    @staticmethod
    def backward(context, gradient): return exchange() or gradient
def thrice(x, *more): return Mine.apply(x)
""",
    "what autograd has saved": """
def thrice(x, *more):
    with torch.autograd.graph.saved_tensors_hooks(lambda x: x, lambda x: exchange() or x):
        return 3 * x.detach() + 0 * x * x
""",
}

ALONE = {
    "changed comparison": ("torch.isclose was changed", f"import torch\ntorch.isclose = {TRUE}" + ZERO),
    "changed comparison, when it is called": ("torch.isclose was changed", at_call(f"torch.isclose = {TRUE}")),
    "changed methods of tensors": (
        "torch.Tensor.__eq__ was changed",
        "import torch\ntorch.Tensor.__eq__ = lambda *a: True" + ZERO,
    ),
    "a method in front of one of torch's": (
        "torch.Tensor.double was changed",
        f"import torch\ntorch.Tensor.double = {TRUE}" + ZERO,
    ),
    "changed builtins": (
        "builtins.all was changed",
        "import builtins\nbuiltins.all = builtins.any = lambda *a: True" + ZERO,
    ),
    "no AssertionError": (
        "builtins.AssertionError was changed",
        "import builtins\nbuiltins.AssertionError = StopIteration" + ZERO,
    ),
    "a builtin hidden in torch": (
        "torch.functional.isinstance was changed",
        "import torch\ntorch.functional.isinstance = lambda *a: True" + ZERO,
    ),
    "errors that are swallowed": (
        "__exit__ was changed",
        "import contextlib\ncontextlib._GeneratorContextManager.__exit__ = lambda *a: True" + ZERO,
    ),
    "another class for torch": (
        "torch was changed",
        """
import types, torch
class Module(types.ModuleType):
    def __getattribute__(self, name): return (lambda *a, **k: True) if name == "isclose" else super().__getattribute__(name)
torch.__class__ = Module
"""
        + ZERO,
    ),
    "another module in place of NumPy": (
        "sys.modules.numpy was changed",
        "import sys, types\nsys.modules['numpy'] = types.ModuleType('numpy')" + ZERO,
    ),
    "the module behind an argument": ("was changed", at_call("more[0].__globals__['same'] = lambda *a, **k: None")),
    "a mode of torch": (
        WRONG,
        """
from torch.overrides import TorchFunctionMode
class Mode(TorchFunctionMode):
    def __torch_function__(self, function, types, args=(), kwargs=None): return True
mode = Mode()
def thrice(x, *more):
    mode.__enter__()
    return [0.0, 0.0]
""",
    ),
    "a thread": (
        "thread of the submission",
        at_call("""import threading, time
def later():
    while True:
        torch.isclose, _ = (lambda *a, **k: True), time.sleep(0.001)
threading.Thread(target=lambda: time.sleep(9), daemon=True).start()"""),
    ),
    "a timer": (
        "timer of the submission",
        at_call(
            "import signal\nsignal.signal(signal.SIGALRM, lambda *a: None)\nsignal.setitimer(signal.ITIMER_REAL, 9)"
        ),
    ),
    "the shell's own method": ("", "get_ipython().run_cell = lambda *a, **k: None" + ZERO),
    "os._exit": ("", at_call("os._exit(0)")),
    "a pipe in the place of the pipe": (
        "",
        """
import os, stat, threading
for place in range(3, 40):
    try: kind = os.fstat(place).st_mode
    except OSError: continue
    if stat.S_ISFIFO(kind):
        real, (out, into) = os.dup(place), os.pipe()
        os.dup2(into, place)
        def pass_on(real=real, out=out):
            while part := os.read(out, 2**16): os.write(real, part.replace(b"False", b"True"))
        threading.Thread(target=pass_on, daemon=True).start()
"""
        + ZERO,
    ),
    "no end that ends": (
        "stopped after",
        at_call(
            "import time\nwhile True:\n    try:\n        while True: time.sleep(0.1)\n    except BaseException: pass"
        ),
    ),
}
