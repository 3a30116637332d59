"""The paper exchange: a matching engine over a replayed market, behind Alpaca's HTTP and websocket interfaces."""
