"""Networks from and to the libraries where people have them; one file a library, imported only when it is used.

    net = ec.from_torch(model)            a Network, with its activations by name
    model = ec.to_torch(recovery)         and back
    ec.Teacher(model), ec.compare(recovery, model)     take a model as it is
    ec.export(recovery, "onnx", "net.onnx")            as a file

All libraries' networks are chains of linear layers with activations between them (`ecjax.doors.chain`). An activation
is known by what it does, not by its name. A softmax or a sigmoid at the end is left out: a Network gives what comes
before.
"""

from .equinox import from_equinox as from_equinox
from .equinox import to_equinox as to_equinox
from .exporting import FORMATS as FORMATS
from .exporting import export as export
from .frames import columns_of as columns_of
from .keras3 import from_keras as from_keras
from .keras3 import to_keras as to_keras
from .linen import from_linen as from_linen
from .linen import to_linen as to_linen
from .models import Asked as Asked
from .models import as_network as as_network
from .models import asked as asked
from .models import is_model as is_model
from .nnx import from_nnx as from_nnx
from .nnx import to_nnx as to_nnx
from .onnx_graph import from_onnx as from_onnx
from .onnx_graph import to_onnx as to_onnx
from .pytorch import from_torch as from_torch
from .pytorch import to_torch as to_torch
from .sklearn import from_sklearn as from_sklearn
from .sklearn import to_sklearn as to_sklearn
