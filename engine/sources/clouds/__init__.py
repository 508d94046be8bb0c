"""Who we are to a cloud: the identity of the machine or Pod that the engine runs on, or of a ServiceAccount.

A cloud is asked by its own library, which is an extra, in a process of its own (`worker.py`): decision 20.
"""
