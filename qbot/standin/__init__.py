"""A server that stands in for every vendor of market data: their shapes, made-up prices, and faults on demand."""
