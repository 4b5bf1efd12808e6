"""The checks of the exercises against wrong answers."""
import nbformat, re, sys, io, contextlib, ast
sys.path.insert(0,'/work/main')
nb=nbformat.read('/tmp/nb08/08_comparing_methods.ipynb',4)
imports="\n".join(ast.unparse(n) for c in nb.cells if c.cell_type=='code' for n in ast.parse(c.source).body if isinstance(n,(ast.Import,ast.ImportFrom)))
checks={re.search(r'def check_(\w+)',c.source)[1]:c.source for c in nb.cells if c.cell_type=='code' and 'def check_' in c.source}
sol={}
for c in nb.cells:
    if c.cell_type=='markdown' and '```python' in c.source:
        m=re.search(r"```python\n(.*?)```",c.source,re.S)[1]; sol[re.search(r'def (\w+)',m)[1]]=m
WRONG={
'not_beaten':['lambda p:[n for n,r in p.iterrows() if not ((p>r).all(axis=1)).any()]','lambda p:[p["last"].idxmax()]','lambda p:[n for n,r in p.iterrows() if not ((p>=r).all(axis=1)&(p.index!=n)).any()]','lambda p:list(p.index)','lambda p: None'],
'p_by_flipping':['lambda d: np.mean([np.dot(s,d)>=d.sum()-1e-9 for s in product((1,-1),repeat=len(d))])','lambda d: np.mean([abs(np.dot(s,d))>abs(d.sum())+1e-9 for s in product((1,-1),repeat=len(d))])','lambda d: 2/2**len(d)','lambda d: 0.03','lambda d: None'],
'runs_needed':['lambda q,level=0.05: int(np.ceil(np.log2(q/level)))','lambda q,level=0.05: 6','lambda q,level=.05: int(np.floor(np.log2(2*q/level)))+1','lambda q,level=.05: None'],
}
for n,ws in WRONG.items():
    for a in [sol[n]]+[f'{n} = {w}' for w in ws]:
        b=io.StringIO()
        with contextlib.redirect_stdout(b): exec("\n".join((imports,a,checks[n])),{})
        print(n, '|', b.getvalue().strip())
