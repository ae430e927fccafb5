"""A gRPC client as a backend developer writes it: stubs generated from proto/, nothing of Quern's own code.

usage: client.py ADDRESS GENERATED_FOLDER; prints one JSON object.
"""

import json
import sys

import grpc

address, generated = sys.argv[1:]
sys.path.insert(0, generated)

from quern.common.v1 import common_pb2 as common  # noqa: E402
from quern.gateway.v1 import gateway_pb2 as pb  # noqa: E402
from quern.gateway.v1 import gateway_pb2_grpc as rpc  # noqa: E402

channel = grpc.insecure_channel(address)
completion = rpc.CompletionServiceStub(channel)
request = pb.CompleteRequest(
    text="def add(a, b):\n    return",
    sampling=common.SamplingParams(max_tokens=12, temperature=0, ignore_eos=True),
)

unary = completion.Complete(request, timeout=30)
events = list(completion.StreamComplete(pb.StreamCompleteRequest(request=request), timeout=30))

stream = completion.StreamComplete(
    pb.StreamCompleteRequest(
        request=pb.CompleteRequest(
            text="x = 1\n", sampling=common.SamplingParams(max_tokens=400, temperature=0, ignore_eos=True)
        )
    )
)
seen = 0
cancelled = ""
try:
    for event in stream:
        seen += 1
        if event.WhichOneof("event") == "delta":
            stream.cancel()
except grpc.RpcError as error:
    cancelled = error.code().name

refusal = ""
try:
    completion.Complete(pb.CompleteRequest(text="x", sampling=common.SamplingParams(top_p=1.5)), timeout=30)
except grpc.RpcError as error:
    refusal = f"{error.code().name}: {error.details()}"

infilled = list(completion.Infill(pb.InfillRequest(prefix="def f(x):\n    ", suffix="\n", mode=pb.INFILL_MODE_SINGLE_LINE)))

print(
    json.dumps(
        {
            "unary": unary.choices[0].text,
            "prompt_tokens": unary.end.usage.prompt_tokens,
            "completion_tokens": unary.end.usage.completion_tokens,
            "streamed": "".join(event.delta.text for event in events),
            "kinds": [event.WhichOneof("event") for event in events],
            "cancelled": cancelled,
            "refusal": refusal,
            "models": [model.name for model in rpc.ModelServiceStub(channel).ListModels(pb.ListModelsRequest()).models],
            "infill_last": infilled[-1].WhichOneof("event"),
        }
    )
)
